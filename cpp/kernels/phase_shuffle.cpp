// SPDX-License-Identifier: MIT
//
// Phase shuffle on the CPU: a sample is one move of memory, then the ends of its rows are put
// right.
#include "ecgcore/kernels/phase_shuffle.h"

#include "ecgcore/math/phase_shuffle.h"

namespace ecg::cpu::ECG_ISA {
namespace {

// Whole vectors, written where they are aligned, the first and last overlapping: memcpy is slow on
// some processors where source and destination are a few bytes off each other's alignment.
template <class E>
void move(const E* ECG_RESTRICT in, E* ECG_RESTRICT out, int64_t count) {
  typedef unsigned char Vector
      __attribute__((vector_size(kVectorBytes), aligned(alignof(E)), may_alias));
  constexpr int64_t kWidth = kLanes<E>;
  if (count < kWidth) {
    for (int64_t i = 0; i < count; ++i) out[i] = in[i];
    return;
  }
  const auto step = [&](int64_t i) {
    *reinterpret_cast<Vector*>(out + i) = *reinterpret_cast<const Vector*>(in + i);
  };
  step(0);
  const auto beyond = reinterpret_cast<uintptr_t>(out) % kVectorBytes / sizeof(E);
  for (int64_t i = kWidth - static_cast<int64_t>(beyond); i + kWidth <= count; i += kWidth) step(i);
  step(count - kWidth);
}

// out[i] = in[i + offset] for all rows of one sample at once, as if they were one row: all but the
// |offset| elements at one end of each row are then right.
template <class E>
void move_rows(const E* in, E* out, int64_t offset, int64_t count) {
  if (offset < 0) {
    move(in, out - offset, count + offset);
  } else {
    move(in + offset, out, count - offset);
  }
}

// body(k, in, out, rows) for the rows within the range, so many of one sample at a time that they
// stay in L1.
template <class E, class Body>
void each_sample(const PhaseShuffleArgs<E>& args, int64_t row_begin, int64_t row_end,
                 const Body& body) {
  constexpr int64_t kBytes = 8192;
  const int64_t fitting = kBytes / (args.length * static_cast<int64_t>(sizeof(E))) + 1;
  for (int64_t row = row_begin; row < row_end;) {
    const int64_t sample = row / args.channels, next = (sample + 1) * args.channels;
    int64_t end = row + fitting;
    if (end > next) end = next;
    if (end > row_end) end = row_end;
    body(args.shifts[sample], args.in + row * args.length, args.out + row * args.length, end - row);
    row = end;
  }
}

template <class E>
void forward(const PhaseShuffleArgs<E>& args, int64_t row_begin, int64_t row_end) {
  const int64_t length = args.length;
  each_sample(args, row_begin, row_end, [&](int64_t k, const E* in, E* out, int64_t rows) {
    move_rows(in, out, -k, rows * length);
    const int64_t begin = k > 0 ? 0 : length + k, end = k > 0 ? k : length;
    for (int64_t row = 0; row < rows; ++row, in += length, out += length) {
      for (int64_t i = begin; i < end; ++i) out[i] = in[reflect(i - k, length)];
    }
  });
}

template <class E>
void adjoint(const PhaseShuffleArgs<E>& args, int64_t row_begin, int64_t row_end) {
  using T = RealOf<E>;
  const int64_t length = args.length;
  each_sample(args, row_begin, row_end, [&](int64_t k, const E* in, E* out, int64_t rows) {
    move_rows(in, out, k, rows * length);
    // Nobody reads those at one end directly; those at the other end have a second reader.
    const int64_t begin = k > 0 ? length - k : 0, end = k > 0 ? length : -k;
    const int64_t second_begin = k > 0 ? 1 : length - 1 + k;
    const int64_t second_end = k > 0 ? k + 1 : length - 1;
    for (int64_t row = 0; row < rows; ++row, in += length, out += length) {
      for (int64_t p = begin; p < end; ++p) out[p] = from_real<E>(T(0));
      for (int64_t p = second_begin; p < second_end; ++p) {
        const E second = in[reflected_reader(p, k, length)];
        out[p] = from_real<E>(to_real<T>(out[p]) + to_real<T>(second));
      }
    }
  });
}

}  // namespace

template <class E>
PhaseShuffleKernels<E> phase_shuffle_kernels() {
  return {forward<E>, adjoint<E>};
}
template PhaseShuffleKernels<float> phase_shuffle_kernels();
template PhaseShuffleKernels<double> phase_shuffle_kernels();
template PhaseShuffleKernels<Float16> phase_shuffle_kernels();
template PhaseShuffleKernels<BFloat16> phase_shuffle_kernels();

}  // namespace ecg::cpu::ECG_ISA

// SPDX-License-Identifier: MIT
//
// Vandermonde sums on the CPU, one row of modes after the other; the work is in
// vandermonde_tables.h.
#include "ecgcore/kernels/vandermonde.h"

#include "vandermonde_tables.h"

namespace ecg::cpu::ECG_ISA {
namespace {

template <class T>
int64_t scratch_of(int64_t modes) {
  Scratch scratch(nullptr);
  Powers<T>(scratch, modes);
  WidePlanes sums;
  sums.allocate(scratch, modes);
  return scratch.used();
}

template <class T>
void forward(const VandermondeArgs<T>& args, double* memory, int64_t row_begin, int64_t row_end) {
  const int64_t N = args.modes, L = args.length;
  Scratch scratch(memory);
  Powers<T> powers(scratch, N);
  for (int64_t row = row_begin; row < row_end; ++row) {
    powers.log_x.load(args.log_x + 2 * row * N, N);
    powers.prepare(L, false);
    for (int64_t head = 0; head < args.heads; ++head) {
      const int64_t at = head * args.rows + row;
      const T* v = args.v + 2 * at * N;
      if (args.conjugate_pairs) {
        for (int64_t n = 0; n < N; ++n) powers.weights.set(n, 2.0 * wide(v + 2 * n));
        powers.sums(args.out + at * L, 1);
      } else {
        // Im(v x) = Re(-i v x)
        powers.weights.load(v, N);
        powers.sums(args.out + 2 * at * L, 2);
        for (int64_t n = 0; n < N; ++n)
          powers.weights.set(n, Complex<double>{v[2 * n + 1], -v[2 * n]});
        powers.sums(args.out + 2 * at * L + 1, 2);
      }
    }
  }
}

// With conjugate pairs dv = 2 conj(m0), dx = 2 conj(v m1); without, the moments are those of the
// conjugate of the gradient and there is no 2.
template <bool kFirst, class T>
void backward(const VandermondeBackwardArgs<T>& args, double* memory, int64_t row_begin,
              int64_t row_end) {
  const int64_t N = args.modes, L = args.length;
  Scratch scratch(memory);
  Powers<T> powers(scratch, N);
  WidePlanes dlog_x;
  dlog_x.allocate(scratch, N);
  for (int64_t row = row_begin; row < row_end; ++row) {
    powers.log_x.load(args.log_x + 2 * row * N, N);
    powers.prepare(L, false);
    for (int64_t n = 0; n < N; ++n) dlog_x.set(n, Complex<double>{0, 0});
    for (int64_t head = 0; head < args.heads; ++head) {
      const int64_t at = head * args.rows + row;
      const T* v = args.v + 2 * at * N;
      for (int64_t i = 0; args.dv != nullptr && i < 2 * N; ++i) args.dv[2 * at * N + i] = 0;
      const auto collect = [&](Complex<double> unit) {  // moments of unit times a real signal
        for (int64_t n = 0; n < N; ++n) {
          if (args.dv != nullptr) {
            const Complex<double> dv = conj(unit * powers.m0.at(n));
            T* to = args.dv + 2 * (at * N + n);
            to[0] += static_cast<T>(dv.re);
            to[1] += static_cast<T>(dv.im);
          }
          if constexpr (kFirst) {
            const Complex<double> slope = wide(v + 2 * n) * (unit * powers.m1.at(n));
            dlog_x.set(n, dlog_x.at(n) + conj(slope));
          }
        }
      };
      if (args.conjugate_pairs) {
        powers.template moments<kFirst>(args.grad + at * L, 1);
        collect({2, 0});
      } else {
        powers.template moments<kFirst>(args.grad + 2 * at * L, 2);
        collect({1, 0});
        powers.template moments<kFirst>(args.grad + 2 * at * L + 1, 2);
        collect({0, -1});
      }
    }
    if constexpr (kFirst) dlog_x.store(args.dlog_x + 2 * row * N, N);
  }
}

template <class T>
void transpose(const VandermondeTransposeArgs<T>& args, double* memory, int64_t row_begin,
               int64_t row_end) {
  const int64_t N = args.modes, L = args.length;
  Scratch scratch(memory);
  Powers<T> powers(scratch, N);
  for (int64_t row = row_begin; row < row_end; ++row) {
    powers.log_x.load(args.log_x + 2 * row * N, N);
    powers.prepare(L, false);
    for (int64_t head = 0; head < args.heads; ++head) {
      const int64_t at = head * args.rows + row;
      powers.template moments<false>(args.u + at * L, 1);
      for (int64_t n = 0; n < N; ++n) {
        powers.m0.set(n, wide(args.v + 2 * (at * N + n)) * powers.m0.at(n));
      }
      powers.m0.store(args.out + 2 * at * N, N);
    }
  }
}

// du = Re Σ_n conj(g) v exp(x l), dv = g conj(m0), dx = g conj(v m1)
template <bool kFirst, class T>
void transpose_backward(const VandermondeTransposeBackwardArgs<T>& args, double* memory,
                        int64_t row_begin, int64_t row_end) {
  const int64_t N = args.modes, L = args.length;
  Scratch scratch(memory);
  Powers<T> powers(scratch, N);
  WidePlanes dlog_x;
  dlog_x.allocate(scratch, N);
  for (int64_t row = row_begin; row < row_end; ++row) {
    powers.log_x.load(args.log_x + 2 * row * N, N);
    powers.prepare(L, false);
    for (int64_t n = 0; n < N; ++n) dlog_x.set(n, Complex<double>{0, 0});
    for (int64_t head = 0; head < args.heads; ++head) {
      const int64_t at = head * args.rows + row;
      const T *g = args.grad + 2 * at * N, *v = args.v + 2 * at * N;
      if (args.du != nullptr) {
        for (int64_t n = 0; n < N; ++n) {
          powers.weights.set(n, conj(wide(g + 2 * n)) * wide(v + 2 * n));
        }
        powers.sums(args.du + at * L, 1);
      }
      if (args.dv == nullptr && !kFirst) continue;
      powers.template moments<kFirst>(args.u + at * L, 1);
      for (int64_t n = 0; n < N; ++n) {
        const Complex<double> gradient = wide(g + 2 * n);
        if constexpr (kFirst) {
          const Complex<double> slope = wide(v + 2 * n) * powers.m1.at(n);
          dlog_x.set(n, dlog_x.at(n) + gradient * conj(slope));
        }
        powers.m0.set(n, gradient * conj(powers.m0.at(n)));
      }
      if (args.dv != nullptr) powers.m0.store(args.dv + 2 * at * N, N);
    }
    if constexpr (kFirst) dlog_x.store(args.dlog_x + 2 * row * N, N);
  }
}

// First moments only where the gradient of log_x is wanted.
template <class T>
void backward_any(const VandermondeBackwardArgs<T>& args, double* memory, int64_t begin,
                  int64_t end) {
  args.dlog_x != nullptr ? backward<true>(args, memory, begin, end)
                         : backward<false>(args, memory, begin, end);
}
template <class T>
void transpose_backward_any(const VandermondeTransposeBackwardArgs<T>& args, double* memory,
                            int64_t begin, int64_t end) {
  args.dlog_x != nullptr ? transpose_backward<true>(args, memory, begin, end)
                         : transpose_backward<false>(args, memory, begin, end);
}

}  // namespace

template <class T>
VandermondeKernels<T> vandermonde_kernels() {
  return {scratch_of<T>, forward<T>, backward_any<T>, transpose<T>, transpose_backward_any<T>};
}
template VandermondeKernels<float> vandermonde_kernels();
template VandermondeKernels<double> vandermonde_kernels();

}  // namespace ecg::cpu::ECG_ISA

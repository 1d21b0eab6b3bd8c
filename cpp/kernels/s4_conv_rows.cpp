// SPDX-License-Identifier: MIT
//
// The long convolution on rows of features: lanes are features, so that signals are read and
// written as they lie, and the table's rows are what the product multiplies with.
#include "ecgcore/kernels/s4_conv_rows.h"

#include "ecgcore/math/activation.h"
#include "s4_conv_tiles.h"

namespace ecg::cpu::ECG_ISA {
namespace {

constexpr int kLineBytes = 64;
// How many rows ahead memory is asked for: rows lie too far apart for the processor to foresee it.
constexpr int64_t kAhead = 8;

// Rows of a table's group.
template <class T>
int64_t table_rows(const FftPlan<T>& plan) {
  return 2 * (plan.half() + 1) + 1;
}

template <class T>
void make_table(const S4ConvTableArgs<T>& args, const FftPlan<T>& plan, int64_t begin,
                int64_t end) {
  using R = Lanes<T>;
  constexpr int W = kLanes<T>;
  const int64_t bins = plan.half() + 1, groups = (args.features + W - 1) / W;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t c = task / groups, group = task % groups;
    T* to = args.table + task * table_rows(plan) * W;
    load_spectrum(plan, args.spectrum + 2 * c * args.features * bins, group, args.features,
                  reinterpret_cast<Complex<R>*>(to));
    const T* D = args.D == nullptr ? nullptr : args.D + c * args.features;
    load_skip<T, R>(D, group, args.features).store(to + 2 * bins * W);
  }
}

// Asks for `bytes` of memory from `at` on.
template <bool kWrite>
void prefetch(const void* at, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += kLineBytes) {
    __builtin_prefetch(static_cast<const char*>(at) + i, kWrite ? 1 : 0);
  }
}

// The next group's table, on its way into L2 while `steps` results are made: all tables together
// exceed the caches, so that each comes from memory.
struct TableAhead {
  const char* at;
  int64_t bytes, each;

  template <class T>
  TableAhead(const T* from, int64_t count, int64_t steps)
      : at(reinterpret_cast<const char*>(from)), bytes(count * static_cast<int64_t>(sizeof(T))) {
    const int64_t lines = (bytes + kLineBytes - 1) / kLineBytes;
    each = (lines + steps - 1) / steps * kLineBytes;
  }
  ECG_HD void fetch(int64_t step) const {
    for (int64_t i = step * each; i < (step + 1) * each && i < bytes; i += kLineBytes) {
      __builtin_prefetch(at + i, 0, 2);
    }
  }
};

// x[g * pitch + j] = lanes of group g in row j, for `count` features in groups of W. Lanes beyond
// them are zero, and nothing beyond them is touched.
template <class R, class E>
void load_rows(const E* from, int64_t stride, int64_t count, int64_t length, int64_t pitch, R* x) {
  constexpr int W = RealTraits<R>::kWidth;
  using T = typename RealTraits<R>::Scalar;
  const int64_t full = count / W, rest = count % W, bytes = count * static_cast<int64_t>(sizeof(E));
  for (int64_t j = 0; j < length; ++j, from += stride) {
    if (j + kAhead < length) prefetch<false>(from + kAhead * stride, bytes);
    for (int64_t g = 0; g < full; ++g) x[g * pitch + j] = load_as<R>(from + g * W);
    if (rest > 0) {
      R& last = x[full * pitch + j];
      last = R(0);
      for (int64_t i = 0; i < rest; ++i) last.lanes[i] = to_real<T>(from[full * W + i]);
    }
  }
}

// The way back.
template <class E, class R>
void store_rows(E* to, int64_t stride, int64_t count, int64_t length, int64_t pitch, const R* x) {
  constexpr int W = RealTraits<R>::kWidth;
  const int64_t full = count / W, rest = count % W, bytes = count * static_cast<int64_t>(sizeof(E));
  for (int64_t j = 0; j < length; ++j, to += stride) {
    if (j + kAhead < length) prefetch<true>(to + kAhead * stride, bytes);
    for (int64_t g = 0; g < full; ++g) store_as(to + g * W, x[g * pitch + j]);
    for (int64_t i = 0; i < rest; ++i) to[full * W + i] = from_real<E>(x[full * pitch + j][i]);
  }
}

// Places in the workspace, in lanes of T. The last channel's results replace the signals.
template <class R, class T>
struct RowsBuffers {
  R *x, *signal, *done;
  Complex<R>* z;

  RowsBuffers(const FftPlan<T>& plan, int64_t block, T* workspace) {
    const int64_t half = plan.half();
    x = reinterpret_cast<R*>(workspace);
    z = reinterpret_cast<Complex<R>*>(x + half);
    signal = x + 3 * half;
    done = signal + block * half;
  }
  static int64_t size(const FftPlan<T>& plan, int64_t block, int64_t channels) {
    return RealTraits<R>::kWidth * (3 + (channels > 1 ? 2 : 1) * block) * plan.half();
  }
};

template <class T>
int64_t rows_workspace(const FftPlan<T>& plan, int64_t block, int64_t channels) {
  return RowsBuffers<Lanes<T>, T>::size(plan, block, channels);
}

template <class E>
void rows(const S4ConvRowsArgs<E>& args, const FftPlan<RealOf<E>>& plan, int64_t block,
          RealOf<E>* workspace, int64_t begin, int64_t end) {
  using T = RealOf<E>;
  using R = Lanes<T>;
  constexpr int W = kLanes<T>;
  const int64_t half = plan.half(), length = args.length, features = args.features;
  const int64_t groups = (features + W - 1) / W, blocks = (groups + block - 1) / block;
  const int64_t width = args.channels * features;
  const RowsBuffers<R, T> to(plan, block, workspace);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t b = task / blocks, first = task % blocks * block;
    const int64_t last = first + block < groups ? first + block : groups;
    const int64_t h = first * W, count = (last * W < features ? last * W : features) - h;
    load_rows(args.u + b * length * features + h, features, count, length, half, to.signal);
    for (int64_t g = 0; g < last - first; ++g) {
      for (int64_t j = length; j < half; ++j) to.signal[g * half + j] = R(0);
    }
    for (int64_t c = 0; c < args.channels; ++c) {
      R* done = c + 1 < args.channels ? to.done : to.signal;
      for (int64_t g = first; g < last; ++g) {
        const T* table = args.table + (c * groups + g) * table_rows(plan) * W;
        const Multiply<R> visit{reinterpret_cast<const Complex<R>*>(table), plan.single_bins()};
        const R* signal = to.signal + (g - first) * half;
        fft_split(plan, half, signal, to.x, to.z, visit);
        const R skip = R::load(table + 2 * (half + 1) * W);
        const Result<R> result = joined(plan, to.x, to.z, skip, signal);
        R* row = done + (g - first) * half;
        const bool is_last = c * groups + g + 1 == args.channels * groups;
        const TableAhead ahead(table + table_rows(plan) * W, is_last ? 0 : table_rows(plan) * W,
                               length);
        for (int64_t j = 0; j < length; ++j) {
          ahead.fetch(j);
          row[j] = args.gelu ? gelu(result(j)) : result(j);
        }
      }
      store_rows(args.out + b * length * width + c * features + h, width, count, length, half,
                 done);
    }
  }
}

}  // namespace

template <class E>
S4ConvRowsKernels<E> s4_conv_rows_kernels() {
  using T = RealOf<E>;
  return {kLanes<T>, rows_workspace<T>, make_table<T>, rows<E>};
}
template S4ConvRowsKernels<float> s4_conv_rows_kernels();
template S4ConvRowsKernels<double> s4_conv_rows_kernels();
template S4ConvRowsKernels<Float16> s4_conv_rows_kernels();
template S4ConvRowsKernels<BFloat16> s4_conv_rows_kernels();

}  // namespace ecg::cpu::ECG_ISA

// SPDX-License-Identifier: MIT
//
// The long convolution of an S4 layer on the CPU: lanes are features, so that one row of the
// spectrum is read once for the whole batch; the transforms (math/fft.h), the product, the skip,
// the activation and the transpositions from and to memory happen on one tile that stays in the
// second- level cache.
#include "ecgcore/kernels/s4_conv.h"

#include "ecgcore/math/activation.h"
#include "s4_conv_tiles.h"

namespace ecg::cpu::ECG_ISA {
namespace {

// u[b] of a group as lanes, zeros up to `padded`.
template <class E, class R>
void load_signal(const E* base, int64_t group, int64_t features, int64_t length, int64_t padded,
                 R* x) {
  constexpr int W = RealTraits<R>::kWidth;
  const LaneRows<const E, W> rows(base, group * W, features, length);
  load_lanes(rows.row, length, x);
  for (int64_t j = length; j < padded; ++j) x[j] = R(0);
}

template <class T>
int64_t forward_workspace(const FftPlan<T>& plan) {
  // signal, x, z, table
  return kLanes<T> * (2 * plan.half() + plan.n + plan.n + 2);
}

template <class E>
void forward(const S4ConvArgs<E>& args, const FftPlan<RealOf<E>>& plan, RealOf<E>* workspace,
             int64_t begin, int64_t end) {
  using T = RealOf<E>;
  using R = Lanes<T>;
  constexpr int W = kLanes<T>;
  const int64_t half = plan.half(), groups = (args.features + W - 1) / W;
  R* signal = reinterpret_cast<R*>(workspace);
  R* x = signal + half;
  auto* z = reinterpret_cast<Complex<R>*>(x + half);
  Complex<R>* table = z + half;
  R skip(0);
  int64_t loaded = -1;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t b = task % args.batch, tile = task / args.batch;
    const int64_t c = tile / groups, group = tile % groups;
    if (tile != loaded) {
      load_spectrum(plan, args.spectrum + 2 * c * args.features * (half + 1), group, args.features,
                    table);
      skip = load_skip<T, R>(args.D == nullptr ? nullptr : args.D + c * args.features, group,
                             args.features);
      loaded = tile;
    }
    load_signal(args.u + b * args.features * args.length, group, args.features, args.length, half,
                signal);
    const Multiply<R> visit{table, plan.single_bins()};
    fft_split(plan, half, signal, x, z, visit);
    const Result<R> result = joined(plan, x, z, skip, signal);
    E* y = args.y + (b * args.channels + c) * args.features * args.length;
    const LaneRows<E, W> rows(y, group * W, args.features, args.length);
    if (args.gelu) {
      store_lanes<T, W>(rows.row, rows.count, args.length,
                        [&](int64_t j) { return gelu(result(j)); });
    } else {
      store_lanes<T, W>(rows.row, rows.count, args.length, result);
    }
  }
}

// The convolution again, from the values of the transform of u.
template <class R>
struct MultiplyKept {
  static constexpr bool kForward = false, kInverse = true;
  const Complex<R>* u;
  const Complex<R>* table;
  const int32_t* pairs;
  int64_t single_bins;

  template <int r>
  ECG_HD void values(int64_t place, Complex<R> (&x)[r]) const {
    for (int m = 0; m < r; ++m) x[m] = u[place + m] * table[place + m];
  }
  ECG_HD void pair(int64_t q, Complex<R>& a, Complex<R>& b) const {
    const Complex<R>* entry = table + single_bins + 2 * q;
    a = u[single_bins + pairs[2 * q]];
    b = u[single_bins + pairs[2 * q + 1]];
    multiply_pair(entry[0], entry[1], a, b);
  }
};

// The gradient's values G: the sum over the batch of G conj(U), and G conj(K) on the way back.
template <class R, bool kSpectrum, bool kSignal>
struct Adjoint {
  static constexpr bool kForward = true, kInverse = kSignal;
  const Complex<R>* u;
  const Complex<R>* table;
  Complex<R>* sum;
  const int32_t* pairs;
  int64_t single_bins;

  template <int r>
  ECG_HD void values(int64_t place, Complex<R> (&x)[r]) const {
    for (int m = 0; m < r; ++m) {
      if constexpr (kSpectrum) sum[place + m] += x[m] * conj(u[place + m]);
      if constexpr (kSignal) x[m] = x[m] * conj(table[place + m]);
    }
  }
  ECG_HD void pair(int64_t q, Complex<R>& a, Complex<R>& b) const {
    const int64_t entry = single_bins + 2 * q;
    if constexpr (kSpectrum) {
      const Complex<R> x = u[single_bins + pairs[2 * q]], y = u[single_bins + pairs[2 * q + 1]];
      sum[entry] += (a + conj(b)) * conj(x + conj(y));
      sum[entry + 1] += (a - conj(b)) * conj(x - conj(y));
    }
    if constexpr (kSignal) multiply_pair(conj(table[entry]), conj(table[entry + 1]), a, b);
  }
};

// The sums of G conj(U) to the rows of the half spectrum. Pairs were summed without their halves.
template <class T, class R>
void store_spectrum_gradient(const FftPlan<T>& plan, Complex<R>* sum, T* dspectrum, int64_t group,
                             int64_t features) {
  constexpr int W = RealTraits<R>::kWidth;
  const int64_t bins = plan.half() + 1;
  for (int64_t i = plan.single_bins(); i < bins; ++i) sum[i] = R(0.25) * sum[i];
  const LaneRows<T, W> rows(dspectrum, group * W, features, 2 * bins);
  fft_store_adjoint_bins(plan, sum, bins, 1, 2.0 / static_cast<double>(plan.n), rows);
}

// Places in the workspace of the backward pass, in lanes of T.
template <class R, class T>
struct BackwardBuffers {
  R *x, *signal, *grad, *du, *D, *dD;
  Complex<R>*z, *u, *tables, *sums;

  BackwardBuffers(const FftPlan<T>& plan, int64_t channels, T* workspace) {
    const int64_t half = plan.half();
    x = reinterpret_cast<R*>(workspace);
    signal = x + half;
    grad = signal + half;
    du = grad + half;
    z = reinterpret_cast<Complex<R>*>(du + half);
    u = z + half;
    tables = u + half;
    sums = tables + channels * (half + 1);
    D = reinterpret_cast<R*>(sums + channels * (half + 1));
    dD = D + channels;
  }
  static int64_t size(const FftPlan<T>& plan, int64_t channels) {
    return RealTraits<R>::kWidth * (4 * plan.half() + 2 * plan.n + channels * (2 * plan.n + 6));
  }
};

template <class T>
int64_t backward_workspace(const FftPlan<T>& plan, int64_t channels) {
  return BackwardBuffers<Lanes<T>, T>::size(plan, channels);
}

// Σ_j a_j b_j, in short partial sums so that rounding errors stay those of a pairwise sum.
template <class R>
R inner_product(const R* a, const R* b, int64_t count) {
  R total(0);
  for (int64_t begin = 0; begin < count; begin += 64) {
    const int64_t end = begin + 64 < count ? begin + 64 : count;
    R part[4] = {R(0), R(0), R(0), R(0)};
    int64_t j = begin;
    for (; j + 4 <= end; j += 4) {
      for (int k = 0; k < 4; ++k) part[k] += a[j + k] * b[j + k];
    }
    for (; j < end; ++j) part[0] += a[j] * b[j];
    total += (part[0] + part[1]) + (part[2] + part[3]);
  }
  return total;
}

// One batch row of one group, all channels.
template <class E, class R>
void backward_row(const S4ConvBackwardArgs<E>& args, const FftPlan<RealOf<E>>& plan,
                  const BackwardBuffers<R, RealOf<E>>& to, int64_t group, int64_t b) {
  constexpr int W = RealTraits<R>::kWidth;
  const int64_t half = plan.half(), length = args.length, plane = args.features * length;
  const int64_t bins = plan.single_bins();
  const bool wants_spectrum = args.dspectrum != nullptr, wants_signal = args.du != nullptr;
  load_signal(args.u + b * plane, group, args.features, length, half, to.signal);
  if (args.gelu || wants_spectrum) {
    FftKeep<R> keep{to.u};
    fft_split(plan, half, to.signal, to.x, to.u, keep);
  }
  for (int64_t c = 0; c < args.channels; ++c) {
    const Complex<R>* table = to.tables + c * (half + 1);
    load_signal(args.grad + (b * args.channels + c) * plane, group, args.features, length, half,
                to.grad);
    if (args.gelu) {
      const MultiplyKept<R> again{to.u, table, plan.pairs, bins};
      fft_from_values(plan, to.z, again);
      const Result<R> before = joined(plan, to.x, to.z, to.D[c], to.signal);
      for (int64_t j = 0; j < length; ++j) to.grad[j] *= gelu_slope(before(j));
    }
    if (args.dD != nullptr) {
      to.dD[c] += inner_product(to.grad, to.signal, half);
    }
    Complex<R>* sum = to.sums + c * (half + 1);
    if (!wants_signal) {
      if (wants_spectrum) {
        const Adjoint<R, true, false> visit{to.u, table, sum, plan.pairs, bins};
        fft_split(plan, half, to.grad, to.x, to.z, visit);
      }
      continue;
    }
    if (wants_spectrum) {
      const Adjoint<R, true, true> visit{to.u, table, sum, plan.pairs, bins};
      fft_split(plan, half, to.grad, to.x, to.z, visit);
    } else {
      const Adjoint<R, false, true> visit{to.u, table, sum, plan.pairs, bins};
      fft_split(plan, half, to.grad, to.x, to.z, visit);
    }
    const Result<R> du = joined(plan, to.x, to.z, to.D[c], to.grad);
    const LaneRows<E, W> rows(args.du + b * plane, group * W, args.features, length);
    if (args.channels == 1) {
      store_lanes<RealOf<E>, W>(rows.row, rows.count, length, du);
      continue;
    }
    for (int64_t j = 0; j < length; ++j) to.du[j] = c == 0 ? du(j) : to.du[j] + du(j);
    if (c + 1 == args.channels) {
      store_lanes<RealOf<E>, W>(rows.row, rows.count, length, [&](int64_t j) { return to.du[j]; });
    }
  }
}

template <class E>
void backward(const S4ConvBackwardArgs<E>& args, const FftPlan<RealOf<E>>& plan,
              RealOf<E>* workspace, int64_t begin, int64_t end) {
  using T = RealOf<E>;
  using R = Lanes<T>;
  constexpr int W = kLanes<T>;
  const int64_t half = plan.half();
  const BackwardBuffers<R, T> to(plan, args.channels, workspace);
  for (int64_t group = begin; group < end; ++group) {
    for (int64_t c = 0; c < args.channels; ++c) {
      load_spectrum(plan, args.spectrum + 2 * c * args.features * (half + 1), group, args.features,
                    to.tables + c * (half + 1));
      to.D[c] = load_skip<T, R>(args.D == nullptr ? nullptr : args.D + c * args.features, group,
                                args.features);
      for (int64_t k = 0; k <= half; ++k) to.sums[c * (half + 1) + k] = {R(0), R(0)};
      to.dD[c] = R(0);
    }
    for (int64_t b = 0; b < args.batch; ++b) backward_row(args, plan, to, group, b);
    for (int64_t c = 0; c < args.channels; ++c) {
      if (args.dspectrum != nullptr) {
        store_spectrum_gradient(plan, to.sums + c * (half + 1),
                                args.dspectrum + 2 * c * args.features * (half + 1), group,
                                args.features);
      }
      if (args.dD != nullptr) {
        const LaneRows<T, W> rows(args.dD + c * args.features, group * W, args.features, 1);
        for (int i = 0; i < rows.count; ++i) *rows.row[i] = to.dD[c][i];
      }
    }
  }
}

}  // namespace

template <class E>
S4ConvKernels<E> s4_conv_kernels() {
  return {kLanes<RealOf<E>>, forward_workspace<RealOf<E>>, backward_workspace<RealOf<E>>,
          forward<E>, backward<E>};
}
template S4ConvKernels<float> s4_conv_kernels();
template S4ConvKernels<double> s4_conv_kernels();
template S4ConvKernels<Float16> s4_conv_kernels();
template S4ConvKernels<BFloat16> s4_conv_kernels();

}  // namespace ecg::cpu::ECG_ISA

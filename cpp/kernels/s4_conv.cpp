// SPDX-License-Identifier: MIT
//
// The long convolution of an S4 layer on the CPU: lanes are features, so that one row of the
// spectrum is read once for the whole batch; the transforms (math/fft.h), the product, the skip,
// the activation and the transpositions from and to memory happen on one tile that stays in the
// second- level cache.
#include "ecgcore/kernels/s4_conv.h"

#include "ecgcore/math/activation.h"
#include "ecgcore/math/fft.h"
#include "ecgcore/math/transpose.h"

namespace ecg::cpu::ECG_ISA {
namespace {

template <class T>
using Lanes = Pack<T, kLanes<T>>;

// The rows base[h * stride ...] of the group's features; missing ones repeat the last.
template <class E, int W>
struct Rows {
  E* row[W];
  int count;

  Rows(E* base, int64_t group, int64_t features, int64_t stride) {
    const int64_t first = group * W;
    count = static_cast<int>(features - first < W ? features - first : W);
    for (int i = 0; i < W; ++i) row[i] = base + (first + (i < count ? i : count - 1)) * stride;
  }
};

// u[b] of a group as lanes, zeros up to `padded`.
template <class E, class R>
void load_signal(const E* base, int64_t group, int64_t features, int64_t length, int64_t padded,
                 R* x) {
  constexpr int W = RealTraits<R>::kWidth;
  const Rows<const E, W> rows(base, group, features, length);
  load_lanes(rows.row, length, x);
  for (int64_t j = length; j < padded; ++j) x[j] = R(0);
}

// The spectrum of a group, in the order of the plan, with the factors the inverse leaves out and
// the skip D folded in (it adds D to every bin). The pair's entries hold
// (K_a + K_b)/2 and (K_a - K_b)/2, K_a and K_b the bins modulo z^m - 1 and z^m + 1.
template <class T, class R>
void load_spectrum(const FftPlan<T>& plan, const T* spectrum, const T* D, int64_t group,
                   int64_t features, Complex<R>* table) {
  constexpr int W = RealTraits<R>::kWidth;
  const int64_t bins = plan.half() + 1;
  const Rows<const T, W> rows(spectrum, group, features, 2 * bins);
  R skip(0);
  if (D != nullptr) {
    const Rows<const T, W> weights(D, group, features, 1);
    for (int i = 0; i < W; ++i) skip.lanes[i] = *weights.row[i];
  }
  const R scale(2.0 / static_cast<double>(plan.n));
  typename R::Vector re[W], im[W];
  for (int64_t k0 = 0; k0 < bins; k0 += W) {
    const int count = static_cast<int>(bins - k0 < W ? bins - k0 : W);
    load_complex<T, W>(rows.row, k0, count, re, im);
    for (int i = 0; i < count; ++i) {
      const int32_t place = plan.places[k0 + i];
      const Complex<R> bin = scale * Complex<R>{R(re[i]) + skip, R(im[i])};
      table[place >= 0 ? place : -1 - place] = place >= 0 ? bin : conj(bin);
    }
  }
  Complex<R>* pair = table + plan.single_bins();
  pair[0].im = pair[1].im = R(0);
  for (int64_t q = 0; q < plan.pair_count(); ++q) {
    const Complex<R> a = pair[2 * q], b = pair[2 * q + 1];
    pair[2 * q] = R(0.25) * (a + b);
    pair[2 * q + 1] = R(0.25) * (a - b);
  }
}

// Z_q = S C_q + D conj(C_-q): K_a on the real, K_b on the imaginary rows of C = A + iB.
template <class R>
ECG_HD void multiply_pair(Complex<R> sum, Complex<R> difference, Complex<R>& a, Complex<R>& b) {
  const Complex<R> x = a, y = b;
  a = sum * x + difference * conj(y);
  b = conj(sum) * y + conj(difference) * conj(x);
}

template <class R>
struct Multiply {
  static constexpr bool kInverse = true;
  const Complex<R>* table;
  int64_t single_bins;

  template <int r>
  ECG_HD void values(int64_t place, Complex<R> (&x)[r]) const {
    for (int m = 0; m < r; ++m) x[m] = x[m] * table[place + m];
  }
  ECG_HD void pair(int64_t q, Complex<R>& a, Complex<R>& b) const {
    const Complex<R>* entry = table + single_bins + 2 * q;
    multiply_pair(entry[0], entry[1], a, b);
  }
};

// Sample j < n/2 of a row whose transforms lie in x and z, after fft_join to n/2.
template <class R>
struct Result {
  const R* x;
  const Complex<R>* z;
  int64_t quarter;  // 0: all of it lies in x

  ECG_HD R operator()(int64_t j) const {
    if (j < quarter) return x[j] + z[j].re;
    if (j < 2 * quarter) return x[j] + z[j - quarter].im;
    return x[j];
  }
};

template <class R, class T>
Result<R> convolve(const FftPlan<T>& plan, const Complex<R>* table, R* x, Complex<R>* z) {
  const Multiply<R> visit{table, plan.single_bins()};
  fft_split(plan, plan.half(), x, z, visit);
  fft_join(plan, plan.half(), x, z);
  return {x, z, plan.parts > 1 ? plan.part[0].points : 0};
}

template <class T>
int64_t forward_workspace(const FftPlan<T>& plan) {
  // x, z, table
  return kLanes<T> * (plan.half() + plan.n + plan.n + 2);
}

template <class E>
void forward(const S4ConvArgs<E>& args, const FftPlan<RealOf<E>>& plan, RealOf<E>* workspace,
             int64_t begin, int64_t end) {
  using T = RealOf<E>;
  using R = Lanes<T>;
  constexpr int W = kLanes<T>;
  const int64_t half = plan.half(), groups = (args.features + W - 1) / W;
  R* x = reinterpret_cast<R*>(workspace);
  auto* z = reinterpret_cast<Complex<R>*>(x + half);
  Complex<R>* table = z + half;
  int64_t loaded = -1;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t b = task % args.batch, tile = task / args.batch;
    const int64_t c = tile / groups, group = tile % groups;
    if (tile != loaded) {
      load_spectrum(plan, args.spectrum + 2 * c * args.features * (half + 1),
                    args.D == nullptr ? nullptr : args.D + c * args.features, group, args.features,
                    table);
      loaded = tile;
    }
    load_signal(args.u + b * args.features * args.length, group, args.features, args.length, half,
                x);
    const Result<R> result = convolve(plan, table, x, z);
    E* y = args.y + (b * args.channels + c) * args.features * args.length;
    const Rows<E, W> rows(y, group, args.features, args.length);
    if (args.gelu) {
      store_lanes<T, W>(rows.row, rows.count, args.length,
                        [&](int64_t j) { return gelu(result(j)); });
    } else {
      store_lanes<T, W>(rows.row, rows.count, args.length, result);
    }
  }
}

}  // namespace

template <class E>
S4ConvKernels<E> s4_conv_kernels() {
  return {kLanes<RealOf<E>>, forward_workspace<RealOf<E>>, nullptr, forward<E>, nullptr};
}
template S4ConvKernels<float> s4_conv_kernels();
template S4ConvKernels<double> s4_conv_kernels();
template S4ConvKernels<Float16> s4_conv_kernels();
template S4ConvKernels<BFloat16> s4_conv_kernels();

}  // namespace ecg::cpu::ECG_ISA

// SPDX-License-Identifier: MIT
//
// What the long convolution of an S4 layer does with a tile, one feature a lane, wherever its
// signals lie: the spectrum in the order of the plan, the product, the skip.
#pragma once

#include "ecgcore/math/fft.h"
#include "ecgcore/math/fft_rows.h"

namespace ecg::cpu::ECG_ISA {
namespace {

template <class T>
using Lanes = Pack<T, kLanes<T>>;

// D of a group; zeros without it.
template <class T, class R>
R load_skip(const T* D, int64_t group, int64_t features) {
  constexpr int W = RealTraits<R>::kWidth;
  R skip(0);
  if (D != nullptr) {
    const LaneRows<const T, W> weights(D, group * W, features, 1);
    for (int i = 0; i < W; ++i) skip.lanes[i] = *weights.row[i];
  }
  return skip;
}

// The spectrum of a group, in the order of the plan, with the factors the inverse leaves out. The
// pair's entries hold (K_a + K_b)/2 and (K_a - K_b)/2, K_a and K_b the bins modulo z^m - 1 and
// z^m + 1. D could be added to every bin, at no cost, but then D u would carry the rounding errors
// of two transforms.
template <class T, class R>
void load_spectrum(const FftPlan<T>& plan, const T* spectrum, int64_t group, int64_t features,
                   Complex<R>* table) {
  constexpr int W = RealTraits<R>::kWidth;
  const int64_t bins = plan.half() + 1;
  const LaneRows<const T, W> rows(spectrum, group * W, features, 2 * bins);
  fft_load_bins(plan, rows, bins, 1, 2.0 / static_cast<double>(plan.n), table);
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
  static constexpr bool kForward = true, kInverse = true;
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

// Sample j < n/2 of a row whose transforms lie in x and z, plus its skip.
template <class R>
struct Result {
  const R* x;
  const Complex<R>* z;
  int64_t quarter;  // 0: all of it lies in x
  R skip;
  const R* signal;

  ECG_HD R operator()(int64_t j) const {
    R sum = x[j] + skip * signal[j];
    if (j < quarter) {
      sum += z[j].re;
    } else if (j < 2 * quarter) {
      sum += z[j - quarter].im;
    }
    return sum;
  }
};

template <class R, class T>
Result<R> joined(const FftPlan<T>& plan, R* x, const Complex<R>* z, R skip, const R* signal) {
  fft_join(plan, plan.half(), x, z);
  return {x, z, plan.parts > 1 ? plan.part[0].points : 0, skip, signal};
}

}  // namespace
}  // namespace ecg::cpu::ECG_ISA

// SPDX-License-Identifier: MIT
//
// Small discrete Fourier transforms in registers: dft<r, sign>(x) replaces x by
//   y_t = Σ_m x_m exp(sign 2πi m t / r),  t = 0 ... r - 1,
// for r = 2, 3, 4, 5, 7, 8, any real-like R. Counts of operations assume fused multiply-add.
#pragma once

#include "ecgcore/math/complex.h"

ECG_MATH_BEGIN

// ±i a
template <int sign, class R>
ECG_HD Complex<R> turn(Complex<R> a) {
  if constexpr (sign > 0) {
    return {-a.im, a.re};
  } else {
    return {a.im, -a.re};
  }
}

template <class R>
ECG_HD void dft2(Complex<R>& a, Complex<R>& b) {
  const Complex<R> difference = a - b;
  a += b;
  b = difference;
}

// 16 additions.
template <int sign, class R>
ECG_HD void dft4(Complex<R>& a, Complex<R>& b, Complex<R>& c, Complex<R>& d) {
  const Complex<R> s = a + c, u = a - c, t = b + d, v = turn<sign>(b - d);
  a = s + t;
  b = u + v;
  c = s - t;
  d = u - v;
}

// 32 operations. With t_k = x_k + x_{5-k}, s_k = x_k - x_{5-k}, c_k = cos(2πk/5), s = sin(2π/5):
// c_1, c_2 = -1/4 ± √5/4 and sin(4π/5)/sin(2π/5) = (√5 - 1)/2.
template <int sign, class R>
ECG_HD void dft5(Complex<R> (&x)[5]) {
  const R quarter(0.25), root(0.55901699437494742410), ratio(0.61803398874989484820);
  const R sine(sign * 0.95105651629515357212);
  const Complex<R> t1 = x[1] + x[4], s1 = x[1] - x[4], t2 = x[2] + x[3], s2 = x[2] - x[3];
  const Complex<R> sum = t1 + t2, difference = t1 - t2;
  const Complex<R> middle = x[0] - quarter * sum;
  const Complex<R> near = middle + root * difference, far = middle - root * difference;
  const Complex<R> v1 = s1 + ratio * s2, v2 = ratio * s1 - s2;
  x[0] += sum;
  x[1] = {near.re - sine * v1.im, near.im + sine * v1.re};
  x[4] = {near.re + sine * v1.im, near.im - sine * v1.re};
  x[2] = {far.re - sine * v2.im, far.im + sine * v2.re};
  x[3] = {far.re + sine * v2.im, far.im - sine * v2.re};
}

// Cosines and sines of 2πk/r, k = 1 ... (r-1)/2, of the odd prime radices without a form of their
// own. Functions, because device code cannot read static arrays of the host.
template <int r>
struct OddRoots;
template <>
struct OddRoots<3> {
  static constexpr ECG_HD double cosine(int) { return -0.5; }
  static constexpr ECG_HD double sine(int) { return 0.86602540378443864676; }
};
template <>
struct OddRoots<7> {
  static constexpr ECG_HD double cosine(int k) {
    return k == 1   ? 0.62348980185873353053
           : k == 2 ? -0.22252093395631440429
                    : -0.90096886790241912624;
  }
  static constexpr ECG_HD double sine(int k) {
    return k == 1   ? 0.78183148246802980871
           : k == 2 ? 0.97492791218182360702
                    : 0.43388373911755812048;
  }
};

template <int r, int sign, class R>
ECG_HD void dft_odd(Complex<R> (&x)[r]) {
  constexpr int kHalf = (r - 1) / 2;
  Complex<R> sum[kHalf], difference[kHalf];
  for (int k = 0; k < kHalf; ++k) {
    sum[k] = x[k + 1] + x[r - 1 - k];
    difference[k] = x[k + 1] - x[r - 1 - k];
  }
  const Complex<R> first = x[0];
  for (int k = 0; k < kHalf; ++k) x[0] += sum[k];
  for (int t = 1; t <= kHalf; ++t) {
    Complex<R> even = first, odd{R(0), R(0)};
    for (int k = 1; k <= kHalf; ++k) {
      // cos and sin of 2π t k/r, folded into the first half of the circle.
      const int turnover = t * k % r;
      const int fold = turnover <= kHalf ? turnover : r - turnover;
      const double sine = (turnover <= kHalf ? sign : -sign) * OddRoots<r>::sine(fold);
      even += R(OddRoots<r>::cosine(fold)) * sum[k - 1];
      odd += R(sine) * difference[k - 1];
    }
    x[t] = {even.re - odd.im, even.im + odd.re};
    x[r - t] = {even.re + odd.im, even.im - odd.re};
  }
}

// 52 additions and multiplications: two transforms of 4, joined by eighths of a turn.
template <int sign, class R>
ECG_HD void dft8(Complex<R> (&x)[8]) {
  const R root(0.70710678118654752440);
  dft4<sign>(x[0], x[2], x[4], x[6]);
  dft4<sign>(x[1], x[3], x[5], x[7]);
  const Complex<R> b = x[3], d = x[7];
  const Complex<R> c = turn<sign>(x[5]);
  // exp(±iπ/4) b = root (b ± i b),  exp(±3iπ/4) d = root (±i d - d)
  const Complex<R> tb = b + turn<sign>(b), td = turn<sign>(d) - d;
  const Complex<R> e0 = x[0], e1 = x[2], e2 = x[4], e3 = x[6], o0 = x[1];
  x[0] = e0 + o0;
  x[4] = e0 - o0;
  x[1] = e1 + root * tb;
  x[5] = e1 - root * tb;
  x[2] = e2 + c;
  x[6] = e2 - c;
  x[3] = e3 + root * td;
  x[7] = e3 - root * td;
}

template <int r, int sign, class R>
ECG_HD void dft(Complex<R> (&x)[r]) {
  static_assert(r >= 1 && r <= 8 && r != 6);
  if constexpr (r == 2) {
    dft2(x[0], x[1]);
  } else if constexpr (r == 4) {
    dft4<sign>(x[0], x[1], x[2], x[3]);
  } else if constexpr (r == 5) {
    dft5<sign>(x);
  } else if constexpr (r == 8) {
    dft8<sign>(x);
  } else if constexpr (r > 1) {
    dft_odd<r, sign>(x);
  }
}

ECG_MATH_END

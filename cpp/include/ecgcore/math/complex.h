// SPDX-License-Identifier: MIT
//
// Complex<R> over any real-like R (float, double, Pack): plain formulas, no NaN-recovery branches,
// usable on host and device. In memory complex numbers are interleaved pairs of reals, as torch and
// numpy store them.
#pragma once

#include "ecgcore/math/config.h"

ECG_MATH_BEGIN

template <class R>
struct Complex {
  R re, im;

  ECG_HD Complex operator-() const { return {-re, -im}; }
  friend ECG_HD Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
  friend ECG_HD Complex operator-(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
  friend ECG_HD Complex operator*(Complex a, Complex b) {
    return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
  }
  friend ECG_HD Complex operator*(R a, Complex b) { return {a * b.re, a * b.im}; }
  friend ECG_HD Complex operator*(Complex a, R b) { return {a.re * b, a.im * b}; }
  ECG_HD Complex& operator+=(Complex b) {
    re += b.re;
    im += b.im;
    return *this;
  }
  ECG_HD Complex& operator-=(Complex b) {
    re -= b.re;
    im -= b.im;
    return *this;
  }
};

template <class R>
ECG_HD Complex<R> conj(Complex<R> a) {
  return {a.re, -a.im};
}

// |a|²
template <class R>
ECG_HD R norm2(Complex<R> a) {
  return a.re * a.re + a.im * a.im;
}

// Re(a b)
template <class R>
ECG_HD R real_of_product(Complex<R> a, Complex<R> b) {
  return a.re * b.re - a.im * b.im;
}

// Re(ā b)
template <class R>
ECG_HD R real_of_inner(Complex<R> a, Complex<R> b) {
  return a.re * b.re + a.im * b.im;
}

// 1/a with one real division. |a|² must neither overflow nor underflow: |a| between 1e-18 and 1e18
// in float.
template <class R>
ECG_HD Complex<R> reciprocal(Complex<R> a) {
  const R inverse = R(1) / norm2(a);
  return {a.re * inverse, -a.im * inverse};
}

ECG_MATH_END

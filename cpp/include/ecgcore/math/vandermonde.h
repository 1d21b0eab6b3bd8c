// SPDX-License-Identifier: MIT
//
// Sums of powers r_l = sum_n w_n exp(x_n l) and their adjoints, the moments
//
//   m0_n = sum_l g_l exp(x_n l),   m1_n = sum_l l g_l exp(x_n l),
//
// without an exponential per sample. Samples are l = a M + b, so exp(x l) = exp(x M a) exp(x b):
// two short tables of powers, made in double and rounded once, and a real matrix product over the
// modes, Re(V_a E_b) = Re V_a Re E_b - Im V_a Im E_b. Both factors are right to half a unit in the
// last place whatever l is; an exponential of a rounded float x l would be off by |x| l of them.
//
// Modes that grow (Re x > 0) run backwards, from the last sample: exp(x l) = exp(x (L - 1))
// exp(-x l'), l' = L - 1 - l. So no table ever exceeds 1, only the weights may, and those are
// saturated: sums beyond 1e30 (float, 1e150 double) stay there instead of becoming inf - inf.
#pragma once

#include "ecgcore/math/complex_exp.h"

ECG_MATH_BEGIN

// M, the samples a table of E covers.
inline constexpr int kVandermondeSamples = 32;

template <class T>
inline constexpr double kVandermondeLargest = sizeof(T) == sizeof(float) ? 1e30 : 1e150;

template <class T>
ECG_HD Complex<double> vandermonde_saturated(Complex<double> w) {
  constexpr double kLargest = kVandermondeLargest<T>;
  const auto clamp = [](double x) {
    return x > kLargest ? kLargest : x < -kLargest ? -kLargest : x;
  };
  return {clamp(w.re), clamp(w.im)};
}

// exp(x (L - 1)) of a mode that grows, at most 1e150, so that a product with it stays a number.
ECG_HD Complex<double> vandermonde_end(Complex<double> x, int64_t length) {
  const double steps = static_cast<double>(length - 1);
  const double size = x.re * steps;
  return complex_exp(Complex<double>{size < 345 ? size : 345, x.im * steps});
}

// exp(k x) of a mode that does not grow, computed on the spot: a CUDA thread fills its entries of
// the tables so. In float only the number of turns needs double. Re x = -inf stands for exp(x) = 0.
template <class T>
ECG_HD Complex<T> vandermonde_power(Complex<double> x, double k) {
  const Complex<double> z{k == 0 ? 0 : k * x.re, k * x.im};
  if constexpr (sizeof(T) == sizeof(float)) {
    const double turns = z.im * 0.15915494309189533577;
    const auto turn = sine_cosine_of_turns(static_cast<float>(turns - ::rint(turns)));
    const float size = exp_of_negative(static_cast<float>(z.re));
    return {size * turn.cos, size * turn.sin};
  } else {
    return complex_exp(z);
  }
}

// m0 and m1 of a mode that runs backwards, from those over l' of exp(-x l').
struct VandermondeMoments {
  Complex<double> m0, m1;
};
ECG_HD VandermondeMoments vandermonde_turned(VandermondeMoments m, Complex<double> end,
                                             int64_t length) {
  const double last = static_cast<double>(length - 1);
  return {end * m.m0, end * (last * m.m0 - m.m1)};
}

ECG_MATH_END

// SPDX-License-Identifier: MIT
//
// How a diagonal state matrix becomes a kernel K_l = 2 Re sum_n factor_n B_n C_n exp(log_x_n l):
// the discretisations of S4D (Gu, Gupta, Goel, Re 2022) and DSS (Gupta, Gu, Berant 2022), with d =
// dt A,
//
//   zoh:       log_x = d,                            factor = (e^d - 1)/A
//   bilinear:  log_x = log((1 + d/2)/(1 - d/2)),     factor = dt/(1 - d/2)
//   dss:       log_x = d,                            factor = (e^f - 1) conj(x)/(|x|^2 + 1e-7) / 2
//
// where x = A (e^{fL} - 1), and f is d, or -d if Re A > 0; then the powers are counted from the
// last sample, exp(d (l - L + 1)), and derivatives take that shift for a constant. dss has no
// factor 2.
//
// All in double: d is never rounded before it is multiplied by l. Gradients follow torch's
// convention, g = dloss/dRe + i dloss/dIm.
#pragma once

#include "ecgcore/math/complex_exp.h"

ECG_MATH_BEGIN

enum class Discretization : int { zoh, bilinear, dss };

inline constexpr double kDssEpsilon = 1e-7;

template <class R>
struct DiagMode {
  Complex<R> log_x, factor;
};
template <class R>
struct DiagModeGradient {
  Complex<R> A;
  R dt;
};

template <class R>
ECG_HD DiagMode<R> diag_mode(Discretization kind, Complex<R> A, R dt, double length) {
  const Complex<R> d = dt * A, one{R(1), R(0)};
  if (kind == Discretization::bilinear) {
    return {twice_artanh_half(d), dt * reciprocal(one - R(0.5) * d)};
  }
  if (kind == Discretization::zoh) return {d, dt * exp_ratio(d, complex_exp(d)).value};
  const Complex<R> f = select(A.re > R(0), -d, d), fL = R(length) * f;
  const Complex<R> rise = f * exp_ratio(f, complex_exp(f)).value;
  const Complex<R> x = A * (fL * exp_ratio(fL, complex_exp(fL)).value);
  return {d, (R(0.5) / (norm2(x) + R(kDssEpsilon))) * (rise * conj(x))};
}

// Adjoint: what the gradients of log_x and factor say about A and dt.
template <class R>
ECG_HD DiagModeGradient<R> diag_mode_gradient(Discretization kind, Complex<R> A, R dt,
                                              double length, Complex<R> g_log_x,
                                              Complex<R> g_factor) {
  const Complex<R> d = dt * A, one{R(1), R(0)};
  if (kind == Discretization::bilinear) {
    const Complex<R> minus = reciprocal(one - R(0.5) * d), plus = reciprocal(one + R(0.5) * d);
    const Complex<R> g_d = g_log_x * conj(minus * plus);  // log_x' = 1/(1 - d^2/4)
    const Complex<R> square = minus * minus;
    return {dt * g_d + g_factor * conj((R(0.5) * dt * dt) * square),
            (g_d * conj(A) + g_factor * conj(square)).re};
  }
  if (kind == Discretization::zoh) {
    const Complex<R> power = complex_exp(d);
    return {dt * g_log_x + g_factor * conj((dt * dt) * exp_ratio(d, power).slope),
            (g_log_x * conj(A) + g_factor * conj(power)).re};
  }
  const auto grows = A.re > R(0);
  const Complex<R> f = select(grows, -d, d), fL = R(length) * f;
  const Complex<R> power = complex_exp(f), last = complex_exp(fL);
  const Complex<R> rise = f * exp_ratio(f, power).value;
  const Complex<R> whole = fL * exp_ratio(fL, last).value, x = A * whole;
  const R inverse = R(1) / (norm2(x) + R(kDssEpsilon));
  // factor = rise q/2, q = conj(x) inverse; dq = -(conj(x) inverse)^2 dx + eps inverse^2 conj(dx)
  const Complex<R> q = inverse * conj(x), g_q = R(0.5) * (g_factor * conj(rise));
  const Complex<R> g_x = (R(kDssEpsilon) * inverse * inverse) * conj(g_q) - conj(q * q) * g_q;
  const Complex<R> g_f = R(0.5) * (g_factor * conj(q * power)) + g_x * conj(R(length) * (A * last));
  const Complex<R> g_d = g_log_x + select(grows, -g_f, g_f);
  return {dt * g_d + g_x * conj(whole), (g_d * conj(A)).re};
}

ECG_MATH_END

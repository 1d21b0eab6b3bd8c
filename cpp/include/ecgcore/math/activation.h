// SPDX-License-Identifier: MIT
//
// Activations that a kernel fuses into its epilogue, and their derivatives, for every real-like R.
#pragma once

#include "ecgcore/math/elementary.h"

ECG_MATH_BEGIN

// GELU in its exact form, x Φ(x) = x/2 (1 + erf(x/√2)) (Hendrycks and Gimpel 2016).
template <class R>
ECG_HD R gelu(R x) {
  return R(0.5) * (x + x_erf_over_sqrt2(x));
}

// Φ(x) + x φ(x)
template <class R>
ECG_HD R gelu_slope(R x) {
  const R density = R(0.39894228040143267794) * exp_of_negative(R(-0.5) * x * x);
  return R(0.5) * (R(1) + erf_over_sqrt2(x)) + x * density;
}

ECG_MATH_END

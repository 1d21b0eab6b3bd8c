// SPDX-License-Identifier: MIT
//
// Activations that a kernel fuses into its epilogue, and their derivatives, for every real-like R.
#pragma once

#include "ecgcore/math/elementary.h"

namespace ecg {

// Those that take one of several; the numbers are the operators'.
enum class Activation : int64_t { kIdentity = 0, kRelu = 1, kLeakyRelu = 2, kTanh = 3 };

}  // namespace ecg

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

// f(x); `negative_slope` is leaky ReLU's. Not-a-number stays so.
template <class R>
ECG_HD R activate(Activation f, R x, R negative_slope) {
  switch (f) {
    case Activation::kRelu:
      return select(x < R(0), R(0), x);
    case Activation::kLeakyRelu:
      return select(x < R(0), negative_slope * x, x);
    case Activation::kTanh:
      return tanh(x);
    case Activation::kIdentity:
      break;
  }
  return x;
}

// f'(x); at 0, where ReLU has none, that of the negative side, as torch.
template <class R>
ECG_HD R activation_slope(Activation f, R x, R negative_slope) {
  switch (f) {
    case Activation::kRelu:
      return select(x > R(0), R(1), R(0));
    case Activation::kLeakyRelu:
      return select(x > R(0), R(1), negative_slope);
    case Activation::kTanh: {
      const R y = tanh(x);
      return R(1) - y * y;
    }
    case Activation::kIdentity:
      break;
  }
  return R(1);
}

ECG_MATH_END

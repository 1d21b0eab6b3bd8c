// SPDX-License-Identifier: MIT
//
// Layer normalisation of one row, and the end of a residual block, for every real-like R.
#pragma once

#include <cmath>

#include "ecgcore/math/pack.h"

ECG_MATH_BEGIN

ECG_HD float inverse_deviation(float variance, float eps) { return 1.0f / ::sqrtf(variance + eps); }
ECG_HD double inverse_deviation(double variance, double eps) {
  return 1.0 / ::sqrt(variance + eps);
}

// (s − mean)/deviation weight + offset
template <class R>
ECG_HD R layer_normalized(R s, R mean, R inverse_deviation, R weight, R offset) {
  return (s - mean) * inverse_deviation * weight + offset;
}

// Half of the variance each of what a block adds to.
template <class R>
ECG_HD R residual_sum(R x, R added) {
  return (x + added) * R(0.70710678118654752440);
}

ECG_MATH_END

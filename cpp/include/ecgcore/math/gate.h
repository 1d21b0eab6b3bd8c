// SPDX-License-Identifier: MIT
//
// The gate of WaveNet, for every real-like R.
#pragma once

#include "ecgcore/math/elementary.h"

ECG_MATH_BEGIN

// tanh(a) σ(b) (van den Oord et al. 2016, equation 2); σ(b) = e^min(b, 0) / (1 + e^−|b|), which
// neither overflows nor cancels.
template <class R>
ECG_HD R gated(R a, R b) {
  const R e = exp_of_negative(-abs(b));
  return tanh(a) * select(b < R(0), e, R(1)) / (R(1) + e);
}

ECG_MATH_END

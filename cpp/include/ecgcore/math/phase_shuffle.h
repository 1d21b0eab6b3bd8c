// SPDX-License-Identifier: MIT
//
// The index map of phase shuffle, y[i] = x[reflect(i − k)], and its fibres: which i read a given p.
// Everything holds for |k| < length.
#pragma once

#include "ecgcore/math/config.h"

ECG_MATH_BEGIN

// −j below 0, 2 (length − 1) − j above length − 1, for j one reflection away from the range.
ECG_HD int64_t reflect(int64_t j, int64_t length) {
  if (j < 0) return -j;
  return j < length ? j : 2 * (length - 1) - j;
}

// At most two i have reflect(i − k) = p: p + k, where it lies in the range, and one that was
// reflected, at the start if k > 0 and at the end if k < 0. This is the latter, or −1 if there is
// none.
ECG_HD int64_t reflected_reader(int64_t p, int64_t k, int64_t length) {
  if (k > 0) return p > 0 && p <= k ? k - p : -1;
  const int64_t i = 2 * (length - 1) - p + k;
  return k < 0 && p < length - 1 && i < length ? i : -1;
}

ECG_MATH_END

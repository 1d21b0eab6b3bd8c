// SPDX-License-Identifier: MIT
//
// Plans of real Fourier transforms: their tables, made once for each length.
#pragma once

#include "ecgcore/math/fft_plan.h"

namespace ecg {

// Whether n has a plan: even, at least 2, no prime factor above 7.
bool fft_has_plan(int64_t n);

// The length of the plan for rows of `length` samples: those of odd length are transformed as half
// of the plan of twice their length, whose even bins are theirs.
inline int64_t fft_plan_length(int64_t length) { return length % 2 == 0 ? length : 2 * length; }

// The smallest length with a plan that is at least `least` and divisible by 8, for which
// transforms are fast.
int64_t fft_good_length(int64_t least);

// The plan of n, made at the first request and kept for the life of the process. Thread-safe.
// Throws std::invalid_argument if there is none.
template <class T>
const FftPlan<T>& fft_plan(int64_t n);

}  // namespace ecg

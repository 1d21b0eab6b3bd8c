// SPDX-License-Identifier: MIT
//
// The plan of a real Fourier transform of even length n = 2^a m, m odd, n made of 2, 3, 5 and 7, in
// the form the kernels walk it: pointers into tables that kernels/fft_plan.h makes and keeps. See
// fft.h for the algorithm.
#pragma once

#include <cstdint>

namespace ecg {

constexpr int kFftMaxStages = 32;

// One complex transform over `points` points: the remainders modulo z^points - exp(2πi root), root
// = 1/4 (0 for the last part). Stage s splits each of its blocks into radix[s] smaller ones; the
// twiddles of block b, complex, start at twiddles[s] + 2 b (radix[s] - 1).
template <class T>
struct FftPart {
  int64_t points;
  int64_t first;  // where its values begin in the order of the plan
  int stages;
  int radix[kFftMaxStages];
  const T* twiddles[kFftMaxStages];
};

template <class T>
struct FftPlan {
  int64_t n;
  int64_t odd;  // m
  int parts;    // of n/4, n/8, ..., m points, then the pair of m points; there are a of them
  FftPart<T> part[64];
  // Where bin k = 0 ... n/2 of the half spectrum has its place: i if it is value i, -1 - i if value
  // i is its conjugate. Values of the parts are counted in their order; from single_bins() on there
  // are, for q = 0 ... (m-1)/2, the value q modulo z^m - 1 and the value q modulo z^m + 1 (at -z).
  const int32_t* places;
  // Where in the pair's part the values q and m - q lie, q = 0 ... (m-1)/2: two numbers each.
  const int32_t* pairs;

  int64_t half() const { return n / 2; }
  int64_t single_bins() const { return n / 2 - odd; }
  int64_t pair_count() const { return (odd + 1) / 2; }
};

}  // namespace ecg

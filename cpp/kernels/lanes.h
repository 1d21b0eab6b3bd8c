// SPDX-License-Identifier: MIT
//
// Walking along a row of numbers. Included by kernels, inside their per-instruction-set namespace.
#pragma once

#include "ecgcore/math/pack.h"

namespace ecg::cpu::ECG_ISA {
namespace {

// body.template operator()<R>(i) for the steps of [0, count): whole vectors, then numbers one by
// one.
template <class T, class Body>
ECG_HD void each_lanes(int64_t count, const Body& body) {
  int64_t i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>) body.template operator()<Pack<T, kLanes<T>>>(i);
  for (; i < count; ++i) body.template operator()<T>(i);
}

// Σ_i term.template operator()<R>(i), term by term in an order that only count and the lanes give.
template <class T, class Term>
ECG_HD T sum_of_lanes(int64_t count, const Term& term) {
  using R = Pack<T, kLanes<T>>;
  constexpr int kSums = 4;  // side by side, or each addition would wait for the one before
  R sums[kSums] = {R(0), R(0), R(0), R(0)};
  int64_t i = 0;
  for (; i + kSums * kLanes<T> <= count; i += kSums * kLanes<T>) {
    for (int j = 0; j < kSums; ++j) sums[j] += term.template operator()<R>(i + j * kLanes<T>);
  }
  for (; i + kLanes<T> <= count; i += kLanes<T>) sums[0] += term.template operator()<R>(i);
  T sum = sum_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
  for (; i < count; ++i) sum += term.template operator()<T>(i);
  return sum;
}

}  // namespace
}  // namespace ecg::cpu::ECG_ISA

// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "ecgcore/kernels/cpu_level.h"
#include "ecgcore/math/half.h"

namespace ecg {

// Weights (features, inner) are packed in panels of 16 features, one panel after the other: entry
// (n, k) lies at [n / 16][k][n % 16], zeros beyond the last feature. The same for every level; a
// panel is as wide as one vector or several. In bfloat16 the pairs of k and k + 1 are the entries.
inline constexpr int64_t kPanelFeatures = 16;

constexpr int64_t panels_of(int64_t features) {
  return (features + kPanelFeatures - 1) / kPanelFeatures;
}
// How many of the products of a sum one entry of the weights takes part in.
template <class W>
inline constexpr int64_t kTermsOf = 1;
template <>
inline constexpr int64_t kTermsOf<BFloat16Pair> = 2;

template <class W>
constexpr int64_t steps_of(int64_t inner) {
  return (inner + kTermsOf<W> - 1) / kTermsOf<W>;
}
template <class W>
constexpr int64_t packed_size(int64_t features, int64_t inner) {
  return panels_of(features) * kPanelFeatures * steps_of<W>(inner);
}

// out[b, l, n] (+)= f(Σ_k x[b, l, k] weight[n, k] + bias[n] + shift[b, n]), f the identity or ReLU.
// Rows of x may overlap. W: float, double, or BFloat16Pair, and then x is rounded to bfloat16 and
// all else is float.
template <class W>
struct PackedLinearArgs {
  using T = RealOf<W>;

  const T* x;       // (batch, length, inner), the last axis dense
  const W* packed;  // packed_size<W>(features, inner)
  const T* bias;    // (features); null: 0
  const T* shift;   // (batch, features), the last axis dense; null: 0
  T* out;           // (batch, length, features), the last axis dense
  int64_t batch, length, inner, features;
  int64_t x_batch, x_row;      // strides
  int64_t out_batch, out_row;  // strides
  int64_t shift_batch;         // stride
  bool relu, accumulate;
};

// A CPU kernel works on a range of the batch * length rows and of the panels. An entry is the same
// to the last bit whatever is computed beside it.
template <class W>
struct PackedLinearKernels {
  int64_t (*scratch)(int64_t inner);  // bytes that forward works in
  void (*forward)(const PackedLinearArgs<W>&, void* scratch, int64_t row_begin, int64_t row_end,
                  int64_t panel_begin, int64_t panel_end);
};

}  // namespace ecg

ECG_KERNEL_TABLE_AMX(PackedLinearKernels, packed_linear_kernels)

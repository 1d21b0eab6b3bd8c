// SPDX-License-Identifier: MIT
#pragma once

#include <type_traits>

#include "ecgcore/kernels/packed_linear.h"
#include "ecgcore/math/winograd.h"

namespace ecg {

// How many outputs are made together: rounding to bfloat16 allows fewer, since errors grow with
// them.
template <class W>
using WinogradOf = std::conditional_t<kTermsOf<W> == 1, Winograd4, Winograd2>;

template <class W>
constexpr int64_t packed_conv_size(int64_t features, int64_t channels) {
  return WinogradOf<W>::kPoints * packed_size<W>(features, channels);
}
// Tiles of neighbouring outputs of one sample.
template <class W>
constexpr int64_t tiles_of(int64_t length) {
  return (length + WinogradOf<W>::kOutputs - 1) / WinogradOf<W>::kOutputs;
}

// out[b, l, n] = Σ_{c, j} x[b, l + j, c] weight[n, c, j] + bias[n], j = 0, 1, 2. W as for
// packed_linear.
template <class W>
struct PackedConvArgs {
  using T = RealOf<W>;

  const T* x;       // (batch, length + 2, channels), the last axis dense
  const W* packed;  // packed_size<W>(features, channels) for each point, of the weights' values
  const T* bias;    // (features); null: 0
  T* out;           // (batch, length, features), the last axis dense
  int64_t batch, length, channels, features;
  int64_t x_batch, x_row;      // strides
  int64_t out_batch, out_row;  // strides
};

// A CPU kernel works on a range of the batch * tiles_of(length) tiles and of the panels. An entry
// is the same to the last bit whatever is computed beside it.
template <class W>
struct PackedConvKernels {
  int64_t (*scratch)(int64_t channels);  // doubles that forward works in
  void (*forward)(const PackedConvArgs<W>&, double* scratch, int64_t tile_begin, int64_t tile_end,
                  int64_t panel_begin, int64_t panel_end);
};

}  // namespace ecg

ECG_KERNEL_TABLE_BF16(PackedConvKernels, packed_conv_kernels)

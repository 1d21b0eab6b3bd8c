// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "ecgcore/kernels/cpu_level.h"

namespace ecg {

// With s = y + residual, n = (s − mean(s)) / √(var(s) + eps) weight + bias + shift[b] over the
// features of each row, var the biased variance, or n = s + shift[b]:
//   out[b, l, f] (+)= scale n_f,   or   out[b, l, f] (+)= scale tanh(n_f) σ(n_{f + features/2})
template <class T>
struct AddLayerNormArgs {
  const T* y;         // (batch, length, features), the last axis dense
  const T* residual;  // likewise; null: 0
  const T* weight;    // (features); null: 1
  const T* bias;      // (features); null: 0
  const T* shift;     // (batch, features), the last axis dense; null: 0
  T* out;             // (batch, length, features or features/2), the last axis dense
  int64_t batch, length, features;
  int64_t y_batch, y_row, residual_batch, residual_row, out_batch, out_row;  // strides
  int64_t shift_batch;                                                       // stride
  T eps, scale;
  bool normalize, gate, accumulate;
};

// A CPU kernel works on a range of the batch * length rows, with room for `features` numbers.
template <class T>
struct AddLayerNormKernels {
  void (*forward)(const AddLayerNormArgs<T>&, T* scratch, int64_t row_begin, int64_t row_end);
};

}  // namespace ecg

ECG_KERNEL_TABLE(AddLayerNormKernels, add_layer_norm_kernels)

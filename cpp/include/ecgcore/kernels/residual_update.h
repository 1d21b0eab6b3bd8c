// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "ecgcore/kernels/cpu_level.h"

namespace ecg {

// The end of a residual block, for each row:
//   x = (x + rs[: residual]) √½,   skip (+)= rs[residual :],   padded = x + step[b]
// All last axes are dense.
template <class T>
struct ResidualUpdateArgs {
  const T* rs;    // (batch, length, residual + skipped)
  const T* step;  // (batch, residual); null: 0
  T* x;           // (batch, length, residual)
  T* skip;        // (batch, length, skipped)
  T* padded;      // (batch, length, residual); null: not wanted
  int64_t batch, length, residual, skipped;
  int64_t rs_batch, rs_row, x_batch, x_row, skip_batch, skip_row, padded_batch, padded_row;
  int64_t step_batch;
  bool first;  // skip is assigned
};

// A CPU kernel works on a range of the batch * length rows.
template <class T>
struct ResidualUpdateKernels {
  void (*forward)(const ResidualUpdateArgs<T>&, int64_t row_begin, int64_t row_end);
};

}  // namespace ecg

ECG_KERNEL_TABLE(ResidualUpdateKernels, residual_update_kernels)

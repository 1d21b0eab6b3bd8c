// SPDX-License-Identifier: MIT
//
// The convolution of kernels/s4_conv.h for inference: signals are rows of features, and what the
// kernel's spectrum and the skip need is arranged once, in a table of
//   (channels, groups, 2 (n/2 + 1) + 1, lanes)
// numbers: for every group of features, one a lane, the real and the imaginary part of each bin in
// turn, then D. On the CPU lanes are those of the instruction set, bins stand in the order of the
// plan and carry the factors of the transform; on CUDA there is one group, of all features, and
// bins stand in their own order.
#pragma once

#include <cstdint>

#include "ecgcore/kernels/cpu_level.h"
#include "ecgcore/math/fft_plan.h"
#include "ecgcore/math/half.h"

namespace ecg {

template <class T>
struct S4ConvTableArgs {
  const T* spectrum;  // (channels, features, n/2 + 1) complex
  const T* D;         // (channels, features), or null for no skip
  T* table;
  int64_t channels, features, n;
};

// out[b, t, c, h] = f(irfft(rfft(u[b, :, h], n) spectrum[c, h], n)[t] + D[c, h] u[b, t, h]).
// E is the element of u and out, T what is computed in.
template <class E>
struct S4ConvRowsArgs {
  using T = RealOf<E>;
  const E* u;  // (batch, length, features)
  const T* table;
  E* out;                                        // (batch, length, channels, features)
  int64_t batch, channels, features, length, n;  // n even, >= 2 length
  bool gelu;
};

// CPU kernels. `table` works on a range of the channels * groups groups. `rows` works on a range of
// batch * ceil(groups / block) tasks: `block` neighbouring groups of one batch row, all channels.
// `workspace` is private to the call, aligned to 64 bytes; so is the table.
template <class E>
struct S4ConvRowsKernels {
  using T = RealOf<E>;
  int lanes;
  // In elements of T.
  int64_t (*workspace)(const FftPlan<T>&, int64_t block, int64_t channels);
  void (*table)(const S4ConvTableArgs<T>&, const FftPlan<T>&, int64_t begin, int64_t end);
  void (*rows)(const S4ConvRowsArgs<E>&, const FftPlan<T>&, int64_t block, T* workspace,
               int64_t begin, int64_t end);
};

}  // namespace ecg

ECG_KERNEL_TABLE(S4ConvRowsKernels, s4_conv_rows_kernels)

// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "ecgcore/kernels/cpu_level.h"

namespace ecg {

// With c_ij = |x[a, :, i] − y[b, :, j]|² over the leads, and infinity outside,
//   D_ij = f(c_ij, min(D_{i−1,j−1}, D_{i−1,j}, D_{i,j−1})),  D_{−1,−1} = 0,
// f the sum (dynamic time warping) or the larger (discrete Fréchet distance):
//   out[a, b] = D_{length−1, other_length−1}
template <class T>
struct WarpPathsArgs {
  const T* x;  // (count, leads, length)
  const T* y;  // (others, leads, other_length)
  T* out;      // (count, others)
  int64_t count, others, leads, length, other_length;
  bool largest;
};

// A CPU kernel works on a range of the pairs of a group of `lanes` records of y and a record of x:
// pair p is that of group p / count and record p % count. `scratch`: doubles it works in.
template <class T>
struct WarpPathsKernels {
  int64_t lanes;
  int64_t (*scratch)(const WarpPathsArgs<T>&);
  void (*forward)(const WarpPathsArgs<T>&, double* scratch, int64_t begin, int64_t end);
};

}  // namespace ecg

ECG_KERNEL_TABLE(WarpPathsKernels, warp_paths_kernels)

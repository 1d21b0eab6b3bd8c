// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "ecgcore/kernels/cpu_level.h"

namespace ecg {

// Cauchy sums out[r, l] = Σ_n v[r, n]/(z[l] − w[r, n]) (+ conjugate partners). Complex arrays are
// interleaved pairs of T.
template <class T>
struct CauchyArgs {
  const T* v;  // (rows, modes) complex
  const T* z;  // (nodes) complex
  const T* w;  // (rows, modes) complex
  T* out;      // (rows, nodes) complex
  int64_t rows, modes, nodes;
  bool conjugate_pairs;
};

// Adjoint. Pointers of gradients nobody wants are null.
template <class T>
struct CauchyBackwardArgs {
  const T* grad;  // (rows, nodes) complex
  const T* v;
  const T* z;
  const T* w;
  T* dv;  // (rows, modes) complex
  T* dw;  // (rows, modes) complex
  T* dz;  // (nodes) complex
  int64_t rows, modes, nodes;
  bool conjugate_pairs;
};

// CPU kernels work on a range of rows; dz, a sum over rows, on a range of nodes.
template <class T>
struct CauchyKernels {
  void (*forward)(const CauchyArgs<T>&, int64_t row_begin, int64_t row_end);
  void (*backward)(const CauchyBackwardArgs<T>&, int64_t row_begin, int64_t row_end);
  void (*backward_nodes)(const CauchyBackwardArgs<T>&, int64_t node_begin, int64_t node_end);
};

}  // namespace ecg

ECG_KERNEL_TABLE(CauchyKernels, cauchy_kernels)

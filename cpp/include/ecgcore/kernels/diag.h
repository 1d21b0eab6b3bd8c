// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "ecgcore/kernels/cpu_level.h"
#include "ecgcore/math/diag.h"

namespace ecg {

// The kernel of a diagonal state-space model; see ecgcore/math/diag.h. Complex arrays are
// interleaved pairs of T. H is the number of features, N of modes, S of rows of input vectors, C of
// channels. An array marked (H|1) that is tied has one feature for all.
template <class T>
struct DiagArgs {
  const T* A;   // (H|1, N) complex
  const T* B;   // (S, H|1, N) complex
  const T* C;   // (C, H, N) complex
  const T* dt;  // (H) real
  T* out;       // (S, C, H, L) real; not used in backward
  int64_t features, modes, rows, channels, length;
  Discretization discretization;
  bool A_tied, B_tied;
};

// Adjoint. Gradients are per feature also where the input is tied. Pointers of gradients nobody
// wants are null.
template <class T>
struct DiagBackwardArgs {
  DiagArgs<T> inputs;
  const T* grad;  // (S, C, H, L) real
  T* dA;          // (H, N) complex
  T* dB;          // (S, H, N) complex
  T* dC;          // (C, H, N) complex
  T* ddt;         // (H) real
};

// CPU kernels work on a range of features, in scratch memory of the given size, one piece per call,
// aligned to 64 bytes.
template <class T>
struct DiagKernels {
  int64_t (*scratch)(const DiagArgs<T>&);  // in doubles
  void (*forward)(const DiagArgs<T>&, double* scratch, int64_t feature_begin, int64_t feature_end);
  void (*backward)(const DiagBackwardArgs<T>&, double* scratch, int64_t feature_begin,
                   int64_t feature_end);
};

}  // namespace ecg

ECG_KERNEL_TABLE(DiagKernels, diag_kernels)

// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "ecgcore/kernels/cpu_level.h"
#include "ecgcore/math/fft_plan.h"

namespace ecg {

// The spectrum of an S4 kernel with state matrix diag(A) − Σ_r P_r Q_rᵀ; see ecgcore/math/nplr.h.
// Complex arrays are interleaved pairs of T. H is the number of features, N of modes, S of rows of
// input vectors, C of channels, R the rank, F the number of nodes. An array marked (H|1) that is
// tied has one feature for all.
template <class T>
struct NplrArgs {
  const T* A;      // (H|1, N) complex
  const T* B;      // (S, H|1, N) complex
  const T* C;      // (C, H, N) complex
  const T* P;      // (R, H|1, N) complex
  const T* Q;      // (R, H|1, N) complex
  const T* dt;     // (H) real
  const T* nodes;  // (5, node_stride) real: c, r, y, Re out, Im out, as nplr_nodes left them
  T* spectrum;     // (S, C, H, F) complex; used by forward only
  int64_t features, modes, rows, channels, rank, node_count, node_stride;
  bool A_tied, B_tied, P_tied, Q_tied;
};

// Planes of nodes are padded to whole multiples of this, with copies of the last node.
inline constexpr int64_t kNplrNodePadding = 64;

// Nodes of length L (omega null), or those of a checkpoint.
template <class T>
struct NplrNodesArgs {
  const T* omega;  // (F) complex, or null
  T* nodes;        // (5, node_stride)
  int64_t length, node_count, node_stride;
};

// Adjoint. Gradients are per feature also where the input is tied: sum_features adds them up.
// Pointers of gradients nobody wants are null. With dC alone, only the sums it needs are formed.
template <class T>
struct NplrBackwardArgs {
  NplrArgs<T> inputs;
  const T* grad;  // (S, C, H, F) complex
  T* dA;          // (H, N) complex
  T* dB;          // (S, H, N) complex
  T* dC;          // (C, H, N) complex
  T* dP;          // (R, H, N) complex
  T* dQ;          // (R, H, N) complex
  T* ddt;         // (H) real
};

// The kernel in time, irfft(spectrum, L), and its adjoint. F = L/2 + 1; L has no prime factor above
// 7.
template <class T>
struct NplrKernelArgs {
  NplrArgs<T> inputs;
  T* kernel;  // (S, C, H, L) real
  int64_t length;
};
template <class T>
struct NplrKernelBackwardArgs {
  NplrBackwardArgs<T> spectrum;  // without its `grad`
  const T* grad;                 // (S, C, H, L) real
  int64_t length;
};

// out[row, i] = Σ_h in[row, h, i], in the order of h, for the columns [begin, end) of (rows, size).
template <class T>
struct NplrSumArgs {
  const T* in;  // (rows, features, size)
  T* out;       // (rows, size)
  int64_t features, size;
};

// CPU kernels work on a range of features, or of elements, in scratch memory of the given size,
// one piece per call, aligned to 64 bytes. Kernels in time take the plan of the real transform of L
// samples (fft_plan.h).
template <class T>
struct NplrKernels {
  void (*nodes)(const NplrNodesArgs<T>&, int64_t begin, int64_t end);  // of node_stride
  int64_t (*forward_scratch)(const NplrArgs<T>&);                      // in elements of T
  void (*forward)(const NplrArgs<T>&, T* scratch, int64_t feature_begin, int64_t feature_end);
  int64_t (*backward_scratch)(const NplrBackwardArgs<T>&);
  void (*backward)(const NplrBackwardArgs<T>&, T* scratch, int64_t feature_begin,
                   int64_t feature_end);
  int64_t (*kernel_scratch)(const NplrKernelArgs<T>&, const FftPlan<T>&);
  void (*kernel)(const NplrKernelArgs<T>&, const FftPlan<T>&, T* scratch, int64_t feature_begin,
                 int64_t feature_end);
  int64_t (*kernel_backward_scratch)(const NplrKernelBackwardArgs<T>&, const FftPlan<T>&);
  void (*kernel_backward)(const NplrKernelBackwardArgs<T>&, const FftPlan<T>&, T* scratch,
                          int64_t feature_begin, int64_t feature_end);
  void (*sum_features)(const NplrSumArgs<T>&, int64_t begin, int64_t end);
};

}  // namespace ecg

ECG_KERNEL_TABLE(NplrKernels, nplr_kernels)

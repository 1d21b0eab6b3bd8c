// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "ecgcore/kernels/cpu_level.h"

namespace ecg {

// out[k, r, l] = 2 Re Σ_n v[k, r, n] exp(log_x[r, n] l), or the complex sum without the factor if
// not conjugate_pairs. Heads share the powers of their row. Complex arrays are interleaved pairs
// of T.
template <class T>
struct VandermondeArgs {
  const T* v;      // (heads, rows, modes) complex
  const T* log_x;  // (rows, modes) complex
  T* out;          // (heads, rows, length), real or complex
  int64_t heads, rows, modes, length;
  bool conjugate_pairs;
};

// Adjoint. Pointers of gradients nobody wants are null.
template <class T>
struct VandermondeBackwardArgs {
  const T* grad;  // (heads, rows, length), real or complex
  const T* v;
  const T* log_x;
  T* dv;      // (heads, rows, modes) complex
  T* dlog_x;  // (rows, modes) complex
  int64_t heads, rows, modes, length;
  bool conjugate_pairs;
};

// out[k, r, n] = v[k, r, n] Σ_l u[k, r, l] exp(log_x[r, n] l)
template <class T>
struct VandermondeTransposeArgs {
  const T* u;      // (heads, rows, length) real
  const T* v;      // (heads, rows, modes) complex
  const T* log_x;  // (rows, modes) complex
  T* out;          // (heads, rows, modes) complex
  int64_t heads, rows, modes, length;
};

template <class T>
struct VandermondeTransposeBackwardArgs {
  const T* grad;  // (heads, rows, modes) complex
  const T* u;
  const T* v;
  const T* log_x;
  T* du;      // (heads, rows, length) real
  T* dv;      // (heads, rows, modes) complex
  T* dlog_x;  // (rows, modes) complex
  int64_t heads, rows, modes, length;
};

// CPU kernels work on a range of rows, in scratch memory of the given size, one piece per call,
// aligned to 64 bytes.
template <class T>
struct VandermondeKernels {
  int64_t (*scratch)(int64_t modes);  // in doubles
  void (*forward)(const VandermondeArgs<T>&, double* scratch, int64_t row_begin, int64_t row_end);
  void (*backward)(const VandermondeBackwardArgs<T>&, double* scratch, int64_t row_begin,
                   int64_t row_end);
  void (*transpose)(const VandermondeTransposeArgs<T>&, double* scratch, int64_t row_begin,
                    int64_t row_end);
  void (*transpose_backward)(const VandermondeTransposeBackwardArgs<T>&, double* scratch,
                             int64_t row_begin, int64_t row_end);
};

}  // namespace ecg

ECG_KERNEL_TABLE(VandermondeKernels, vandermonde_kernels)

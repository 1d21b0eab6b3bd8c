// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "ecgcore/kernels/cpu_level.h"

namespace ecg {

// One sample through a diagonal-plus-low-rank state space, formulas in math/ssm_step.h. Complex
// arrays are interleaved pairs of T.
template <class T>
struct SsmStepArgs {
  const T* state;  // (batch, features, modes) complex
  const T* u;      // (batch, features)
  const T* A;      // (features, modes) complex
  const T* B;      // (features, modes) complex
  const T* C;      // (channels, features, modes) complex
  const T* P;      // (rank, features, modes) complex
  const T* Q;      // (rank, features, modes) complex
  T* y;            // (batch, channels, features)
  T* next;         // (batch, features, modes) complex
  int64_t batch, features, modes, channels, rank;
};

// Adjoint. Pointers of gradients nobody wants are null; G, s and t are scratch that the sums over
// the batch need, null where none of those is wanted.
template <class T>
struct SsmStepBackwardArgs {
  const T* grad_y;         // (batch, channels, features)
  const T* grad_next;      // (batch, features, modes) complex
  const T* next;           // (batch, features, modes) complex
  SsmStepArgs<T> forward;  // its y and next are not used
  T* G;                    // (batch, features, modes) complex
  T* s;                    // (batch, rank, features)
  T* t;                    // (batch, rank, features)
  T* dstate;
  T* du;
  T* dA;
  T* dB;
  T* dC;
  T* dP;
  T* dQ;
};

// A task is a row of the state: task = feature * batch + sample, so that the coefficients of a
// feature are read once for its whole batch. The sums over the batch go by feature.
template <class T>
struct SsmStepKernels {
  void (*forward)(const SsmStepArgs<T>&, int64_t begin, int64_t end);
  void (*backward)(const SsmStepBackwardArgs<T>&, int64_t begin, int64_t end);
  void (*backward_sums)(const SsmStepBackwardArgs<T>&, int64_t feature_begin, int64_t feature_end);
};

}  // namespace ecg

ECG_KERNEL_TABLE(SsmStepKernels, ssm_step_kernels)

// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "ecgcore/kernels/cpu_level.h"
#include "ecgcore/math/activation.h"

namespace ecg {

// y[b, f, l] = activation(gamma[b, f] (x[b, f, l] − mean[f]) / √(var[f] + eps) + beta[b, f]).
template <class T>
struct ConditionalBatchNormArgs {
  const T* x;             // (batch, features, length)
  const T* gamma;         // (batch, features)
  const T* beta;          // (batch, features)
  const T* running_mean;  // (features); null: the statistics are those of x
  const T* running_var;   // (features)
  T* statistics;          // (3, features): mean, unbiased variance, 1/√(biased variance + eps)
  T* y;                   // (batch, features, length)
  int64_t batch, features, length;
  T eps, negative_slope;
  Activation activation;
};

// Adjoint. What goes into the activation is computed again. Pointers of gradients nobody wants are
// null; in training dx needs dgamma, dbeta and `means`.
template <class T>
struct ConditionalBatchNormBackwardArgs {
  const T* grad;        // (batch, features, length)
  const T* x;           // (batch, features, length)
  const T* gamma;       // (batch, features)
  const T* beta;        // (batch, features)
  const T* statistics;  // (3, features)
  T* dx;                // (batch, features, length)
  T* dgamma;            // (batch, features)
  T* dbeta;             // (batch, features)
  T* means;             // (2, features), scratch; null: the statistics do not depend on x
  int64_t batch, features, length;
  T negative_slope;
  Activation activation;
};

// CPU kernels work on a range of features, or of the batch * features rows. Forward: statistics,
// then normalize. Backward: rows, which computes all there is unless the statistics depend on x;
// then means and dx follow.
template <class T>
struct ConditionalBatchNormKernels {
  using Args = ConditionalBatchNormArgs<T>;
  using BackwardArgs = ConditionalBatchNormBackwardArgs<T>;
  void (*statistics)(const Args&, int64_t feature_begin, int64_t feature_end);
  void (*normalize)(const Args&, int64_t row_begin, int64_t row_end);
  void (*backward_rows)(const BackwardArgs&, int64_t row_begin, int64_t row_end);
  void (*backward_means)(const BackwardArgs&, int64_t feature_begin, int64_t feature_end);
  void (*backward_dx)(const BackwardArgs&, int64_t row_begin, int64_t row_end);
};

}  // namespace ecg

ECG_KERNEL_TABLE(ConditionalBatchNormKernels, conditional_batch_norm_kernels)

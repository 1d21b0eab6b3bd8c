// SPDX-License-Identifier: MIT
#include "ecgcore/cuda/conditional_batch_norm.h"
#include "ecgcore/cuda/launch.cuh"

namespace ecg::cuda {

template <class T>
Error conditional_batch_norm_forward(const ConditionalBatchNormArgs<T>& args, T* scratch,
                                     Stream stream) {
  return conditional_batch_norm_forward_programs(
      args, scratch, [&](const auto& program) { return launch(program, stream); });
}

template <class T>
Error conditional_batch_norm_backward(const ConditionalBatchNormBackwardArgs<T>& args,
                                      Stream stream) {
  return conditional_batch_norm_backward_programs(
      args, [&](const auto& program) { return launch(program, stream); });
}

#define ECG_INSTANTIATE(T)                                                                       \
  template Error conditional_batch_norm_forward(const ConditionalBatchNormArgs<T>&, T*, Stream); \
  template Error conditional_batch_norm_backward(const ConditionalBatchNormBackwardArgs<T>&,     \
                                                 Stream);
ECG_INSTANTIATE(float)
ECG_INSTANTIATE(double)

}  // namespace ecg::cuda

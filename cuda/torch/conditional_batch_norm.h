// SPDX-License-Identifier: MIT
#pragma once

#include "backend_cuda.h"
#include "ecgcore/cuda/conditional_batch_norm.h"
#include "torch/ops/conditional_batch_norm.h"

namespace ecg::torch_abi {

template <class T>
struct ConditionalBatchNormRun<Cuda, T> {
  static void forward(const ConditionalBatchNormArgs<T>& args) {
    const Tensor scratch = Cuda::scratch<T>(cuda::conditional_batch_norm_scratch(args));
    Cuda::check(
        cuda::conditional_batch_norm_forward(args, scratch.mutable_data<T>(), Cuda::stream()),
        "conditional_batch_norm");
  }
  static void backward(const ConditionalBatchNormBackwardArgs<T>& args) {
    Cuda::check(cuda::conditional_batch_norm_backward(args, Cuda::stream()),
                "conditional_batch_norm_backward");
  }
};

}  // namespace ecg::torch_abi

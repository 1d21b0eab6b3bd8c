// SPDX-License-Identifier: MIT
#pragma once

#include "backend_cuda.h"
#include "ecgcore/cuda/ssm_step.h"
#include "torch/ops/ssm_step.h"

namespace ecg::torch_abi {

template <class T>
struct SsmStepRun<Cuda, T> {
  static void forward(const SsmStepArgs<T>& args) {
    Cuda::check(cuda::ssm_step_forward(args, Cuda::stream()), "ssm_step");
  }
  static void backward(const SsmStepBackwardArgs<T>& args) {
    Cuda::check(cuda::ssm_step_backward(args, Cuda::stream()), "ssm_step_backward");
  }
};

}  // namespace ecg::torch_abi

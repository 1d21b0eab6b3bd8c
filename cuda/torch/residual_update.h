// SPDX-License-Identifier: MIT
#pragma once

#include "backend_cuda.h"
#include "ecgcore/cuda/residual_update.h"
#include "torch/ops/residual_update.h"

namespace ecg::torch_abi {

template <class T>
struct ResidualUpdateRun<Cuda, T> {
  static void forward(const ResidualUpdateArgs<T>& args) {
    Cuda::check(cuda::residual_update_forward(args, Cuda::stream()), "residual_update");
  }
};

}  // namespace ecg::torch_abi

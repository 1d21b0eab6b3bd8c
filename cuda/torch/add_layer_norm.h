// SPDX-License-Identifier: MIT
#pragma once

#include "backend_cuda.h"
#include "ecgcore/cuda/add_layer_norm.h"
#include "torch/ops/add_layer_norm.h"

namespace ecg::torch_abi {

template <class T>
struct AddLayerNormRun<Cuda, T> {
  static void forward(const AddLayerNormArgs<T>& args) {
    Cuda::check(cuda::add_layer_norm_forward(args, Cuda::stream()), "add_layer_norm");
  }
};

}  // namespace ecg::torch_abi

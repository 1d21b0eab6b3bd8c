// SPDX-License-Identifier: MIT
#pragma once

#include "backend_cuda.h"
#include "ecgcore/cuda/philox.h"
#include "torch/ops/philox.h"

namespace ecg::torch_abi {

template <class E>
struct PhiloxRun<Cuda, E> {
  static void fill(const Check&, const PhiloxArgs<E>& args) {
    Cuda::check(cuda::philox_fill(args, Cuda::stream()), "philox");
  }
};

}  // namespace ecg::torch_abi

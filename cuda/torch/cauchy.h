// SPDX-License-Identifier: MIT
#pragma once

#include "backend_cuda.h"
#include "ecgcore/cuda/cauchy.h"
#include "torch/ops/cauchy.h"

namespace ecg::torch_abi {

template <class T>
struct CauchyRun<Cuda, T> {
  static void forward(const CauchyArgs<T>& args) {
    Cuda::check(cuda::cauchy_forward(args, Cuda::stream()), "cauchy");
  }
  static void backward(const CauchyBackwardArgs<T>& args) {
    Tensor partial;
    T* scratch = nullptr;
    if (args.dz != nullptr) {
      partial = Cuda::scratch<T>(2 * cuda::cauchy_dz_chunks(args.rows) * args.nodes);
      scratch = partial.mutable_data<T>();
    }
    Cuda::check(cuda::cauchy_backward(args, scratch, Cuda::stream()), "cauchy_backward");
  }
};

}  // namespace ecg::torch_abi

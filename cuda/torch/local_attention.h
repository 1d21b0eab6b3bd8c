// SPDX-License-Identifier: MIT
#pragma once

#include "backend_cuda.h"
#include "ecgcore/cuda/local_attention_backward.h"
#include "torch/ops/local_attention.h"

namespace ecg::torch_abi {

template <class E>
struct LocalAttentionRun<Cuda, E> {
  static void forward(const LocalAttentionArgs<E>& args) {
    Cuda::check(cuda::local_attention_forward(args, Cuda::stream()), "local_attention");
  }
  static void backward(const LocalAttentionBackwardArgs<E>& args) {
    const Tensor scratch = Cuda::scratch<RealOf<E>>(cuda::local_attention_backward_scratch(args));
    Cuda::check(
        cuda::local_attention_backward(args, scratch.mutable_data<RealOf<E>>(), Cuda::stream()),
        "local_attention_backward");
  }
};

}  // namespace ecg::torch_abi

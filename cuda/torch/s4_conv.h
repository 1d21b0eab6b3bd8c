// SPDX-License-Identifier: MIT
#pragma once

#include "backend_cuda.h"
#include "ecgcore/cuda/s4_conv_backward.h"
#include "torch/ops/s4_conv.h"

namespace ecg::torch_abi {

template <class E>
struct S4ConvRun<Cuda, E> {
  using T = RealOf<E>;

  static void forward(const S4ConvArgs<E>& args) {
    const Tensor scratch = Cuda::scratch<T>(cuda::s4_conv_forward_scratch(args));
    Cuda::check(cuda::s4_conv_forward(args, scratch.mutable_data<T>(), Cuda::stream()), "s4_conv");
  }
  static void backward(const S4ConvBackwardArgs<E>& args) {
    const Tensor scratch = Cuda::scratch<T>(cuda::s4_conv_backward_scratch(args));
    Cuda::check(cuda::s4_conv_backward(args, scratch.mutable_data<T>(), Cuda::stream()),
                "s4_conv_backward");
  }
};

}  // namespace ecg::torch_abi

// SPDX-License-Identifier: MIT
#pragma once

#include "backend_cuda.h"
#include "ecgcore/cuda/nplr_time.h"
#include "torch/ops/nplr.h"

namespace ecg::torch_abi {

template <class T>
struct NplrRun<Cuda, T> {
  static void nodes(const NplrNodesArgs<T>& args) {
    Cuda::check(cuda::nplr_nodes(args, Cuda::stream()), "nplr_spectrum");
  }
  static void forward(const NplrArgs<T>& args) {
    const Tensor scratch = Cuda::scratch<T>(cuda::nplr_forward_scratch(args));
    Cuda::check(cuda::nplr_forward(args, scratch.mutable_data<T>(), Cuda::stream()),
                "nplr_spectrum");
  }
  static void backward(const NplrBackwardArgs<T>& args) {
    const Tensor scratch = Cuda::scratch<T>(cuda::nplr_backward_scratch(args));
    Cuda::check(cuda::nplr_backward(args, scratch.mutable_data<T>(), Cuda::stream()),
                "nplr_spectrum_backward");
  }
  static void kernel(const NplrKernelArgs<T>& args) {
    const Tensor scratch = Cuda::scratch<T>(cuda::nplr_kernel_scratch(args));
    Cuda::check(cuda::nplr_kernel(args, scratch.mutable_data<T>(), Cuda::stream()), "nplr_kernel");
  }
  static void kernel_backward(const NplrKernelBackwardArgs<T>& args) {
    const Tensor scratch = Cuda::scratch<T>(cuda::nplr_kernel_backward_scratch(args));
    Cuda::check(cuda::nplr_kernel_backward(args, scratch.mutable_data<T>(), Cuda::stream()),
                "nplr_kernel_backward");
  }
  static void sum_features(const NplrSumArgs<T>& args, int64_t rows) {
    Cuda::check(cuda::nplr_sum_features(args, rows, Cuda::stream()), "nplr_spectrum_backward");
  }
};

}  // namespace ecg::torch_abi

// SPDX-License-Identifier: MIT
#pragma once

#include "backend_cuda.h"
#include "ecgcore/cuda/vandermonde.h"
#include "torch/ops/vandermonde.h"

namespace ecg::torch_abi {

template <class T>
struct VandermondeRun<Cuda, T> {
  static void forward(const VandermondeArgs<T>& args) { run(args, "vandermonde"); }
  static void backward(const VandermondeBackwardArgs<T>& args) {
    run(args, "vandermonde_backward");
  }
  static void transpose(const VandermondeTransposeArgs<T>& args) {
    run(args, "vandermonde_transpose");
  }
  static void transpose_backward(const VandermondeTransposeBackwardArgs<T>& args) {
    run(args, "vandermonde_transpose_backward");
  }

 private:
  template <class Args>
  static void run(const Args& args, const char* op) {
    const Tensor scratch = Cuda::scratch<double>(cuda::vandermonde_scratch(args));
    Cuda::check(cuda::vandermonde(args, scratch.mutable_data<double>(), Cuda::stream()), op);
  }
};

}  // namespace ecg::torch_abi

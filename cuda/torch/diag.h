// SPDX-License-Identifier: MIT
#pragma once

#include "backend_cuda.h"
#include "ecgcore/cuda/diag.h"
#include "nplr.h"
#include "torch/ops/diag.h"

namespace ecg::torch_abi {

template <class T>
struct DiagRun<Cuda, T> {
  static void forward(const DiagArgs<T>& args) { run(args, "diag_kernel"); }
  static void backward(const DiagBackwardArgs<T>& args) { run(args, "diag_kernel_backward"); }

 private:
  template <class Args>
  static void run(const Args& args, const char* op) {
    const Tensor scratch = Cuda::scratch<double>(cuda::diag_scratch(args));
    Cuda::check(cuda::diag(args, scratch.mutable_data<double>(), Cuda::stream()), op);
  }
};

}  // namespace ecg::torch_abi

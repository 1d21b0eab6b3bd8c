// SPDX-License-Identifier: MIT
#pragma once

#include "backend_cuda.h"
#include "ecgcore/cuda/s4_conv_rows.h"
#include "torch/ops/s4_conv_rows.h"

namespace ecg::torch_abi {

template <class E>
struct S4ConvRowsRun<Cuda, E> {
  using T = RealOf<E>;

  static int64_t lanes(int64_t features) { return features; }

  static void table(const S4ConvTableArgs<T>& args) {
    Cuda::check(cuda::s4_conv_table(args, Cuda::stream()), "s4_conv_table");
  }
  static void rows(const S4ConvRowsArgs<E>& args) {
    const Tensor scratch = Cuda::scratch<T>(cuda::s4_conv_rows_scratch(args));
    Cuda::check(cuda::s4_conv_rows(args, scratch.mutable_data<T>(), Cuda::stream()),
                "s4_conv_rows");
  }
};

}  // namespace ecg::torch_abi

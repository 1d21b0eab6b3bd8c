// SPDX-License-Identifier: MIT
#pragma once

#include "../backend_cpu.h"
#include "../check.h"
#include "../library.h"
#include "ecgcore/kernels/warp_paths.h"

namespace ecg::torch_abi {

// How the kernels are started on each backend: only the CPU has one.
template <class Backend, class T>
struct WarpPathsRun;

template <class T>
struct WarpPathsRun<Cpu, T> {
  static void forward(const WarpPathsArgs<T>& args) {
    const auto kernels = cpu::warp_paths_kernels<T>();
    const int64_t groups = (args.others + kernels.lanes - 1) / kernels.lanes;
    Cpu::rows_with_scratch(groups * args.count, args.length * args.other_length * args.leads,
                           kernels.scratch(args), [&](double* scratch, int64_t begin, int64_t end) {
                             kernels.forward(args, scratch, begin, end);
                           });
  }
};

namespace detail {

template <class Backend, class T>
void warp_paths(const Tensor& x, const Tensor& y, const Tensor& out, bool largest) {
  WarpPathsRun<Backend, T>::forward({x.data<T>(), y.data<T>(), out.mutable_data<T>(), x.size(0),
                                     y.size(0), x.size(1), x.size(2), y.size(2), largest});
}

}  // namespace detail

template <class Backend>
void warp_paths(const Tensor& x, const Tensor& y, bool largest, const Written<'a'>& out) {
  const Check check("warp_paths");
  check.dtype(x, "x", {DType::f32, DType::f64});
  check.shape(x, "x", "(n, C, L)", {-1, -1, -1});
  check.contiguous(x, "x");
  check.operand(y, "y", x.dtype(), x.device(), "(m, C, M)", {-1, x.size(1), -1});
  check.at_least(x.size(2), "the length of x", 1);
  check.at_least(y.size(2), "the length of y", 1);
  check.operand(out, "out", x.dtype(), x.device(), "(n, m)", {x.size(0), y.size(0)});
  if (out.numel() == 0) return;
  const auto run = x.dtype() == DType::f32 ? detail::warp_paths<Backend, float>
                                           : detail::warp_paths<Backend, double>;
  run(x, y, out, largest);
}

}  // namespace ecg::torch_abi

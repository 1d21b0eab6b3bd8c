// SPDX-License-Identifier: MIT
#pragma once

#include <array>

#include "ecgcore/kernels/diag.h"
#include "nplr.h"
#include "vandermonde.h"

namespace ecg::torch_abi {

// How the S4D kernels are started on each backend.
template <class Backend, class T>
struct DiagRun;

template <class T>
struct DiagRun<Cpu, T> {
  static void forward(const DiagArgs<T>& args) {
    const auto kernels = cpu::diag_kernels<T>();
    features(args, [&](double* scratch, int64_t begin, int64_t end) {
      kernels.forward(args, scratch, begin, end);
    });
  }
  static void backward(const DiagBackwardArgs<T>& args) {
    const auto kernels = cpu::diag_kernels<T>();
    features(args.inputs, [&](double* scratch, int64_t begin, int64_t end) {
      kernels.backward(args, scratch, begin, end);
    });
  }

 private:
  template <class Body>
  static void features(const DiagArgs<T>& args, const Body& body) {
    Cpu::rows_with_scratch(args.features, args.rows * args.channels * args.modes * args.length,
                           cpu::diag_kernels<T>().scratch(args), body);
  }
};

namespace detail {

// The operands of diag_kernel, checked.
struct DiagOperands {
  const Tensor &A, &B, &C, &dt;
  int64_t L;
  const std::string& name;

  int64_t features() const { return C.size(1); }
  int64_t modes() const { return C.size(2); }
  bool single() const { return C.dtype() == DType::c64; }
  DType real() const { return single() ? DType::f32 : DType::f64; }
  std::vector<int64_t> shape() const { return {B.size(0), C.size(0), features(), L}; }

  void check(const Check& check) const {
    check.dtype(C, "C", {DType::c64, DType::c128});
    check.shape(C, "C", "(C, H, N)", {-1, -1, -1});
    check.contiguous(C, "C");
    check.at_least(modes(), "the number of modes N of C", 1);
    check.at_least(L, "L", 1);
    const bool one = A.dim() == 2 && A.size(0) == 1;
    check.operand(A, "A", C.dtype(), C.device(), "(H|1, N)", {one ? 1 : features(), modes()});
    const bool one_b = B.dim() == 3 && B.size(1) == 1;
    check.operand(B, "B", C.dtype(), C.device(), "(S, H|1, N)",
                  {-1, one_b ? 1 : features(), modes()});
    check.operand(dt, "dt", real(), C.device(), "(H,)", {features()});
    check.that(name == "zoh" || name == "bilinear" || name == "dss",
               "discretization must be zoh, bilinear or dss, got " + name);
  }

  Discretization discretization() const {
    return name == "zoh"   ? Discretization::zoh
           : name == "dss" ? Discretization::dss
                           : Discretization::bilinear;
  }
  bool tied(const Tensor& tensor) const {
    return tensor.size(tensor.dim() - 2) == 1 && features() != 1;
  }

  template <class T>
  DiagArgs<T> args(T* out) const {
    return {A.data<T>(), B.data<T>(), C.data<T>(), dt.data<T>(),     out,     features(), modes(),
            B.size(0),   C.size(0),   L,           discretization(), tied(A), tied(B)};
  }
};

using DiagGradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;

template <class Backend, class T>
DiagGradients diag_kernel_backward(const Tensor& grad, const DiagOperands& in,
                                   const std::vector<bool>& wanted) {
  // The kernels leave gradients of every feature; those of tied inputs are summed afterwards.
  const std::vector<int64_t> wide_b{in.B.size(0), in.features(), in.modes()};
  const std::vector<int64_t> wide_a{in.features(), in.modes()};
  const auto make = [&](const Tensor& like, const std::vector<int64_t>& sizes, bool want) {
    return want ? empty(sizes, like.dtype(), like.device()) : nothing_like(like);
  };
  Tensor dA = make(in.A, wide_a, wanted[0]), dB = make(in.B, wide_b, wanted[1]);
  Tensor dC = wanted_like(in.C, wanted[2]), ddt = wanted_like(in.dt, wanted[3]);
  if (wanted[0] || wanted[1] || wanted[2] || wanted[3]) {
    DiagRun<Backend, T>::backward({in.args<T>(nullptr), grad.data<T>(),
                                   wanted_data<T>(dA, wanted[0]), wanted_data<T>(dB, wanted[1]),
                                   wanted_data<T>(dC, wanted[2]), wanted_data<T>(ddt, wanted[3])});
  }
  const auto summed = [&](Tensor each, const Tensor& input, int64_t rows) {
    Tensor out = wanted_like(input, true);
    NplrRun<Backend, T>::sum_features(
        {each.data<T>(), out.template mutable_data<T>(), in.features(), 2 * in.modes()}, rows);
    return out;
  };
  if (wanted[0] && in.tied(in.A)) dA = summed(std::move(dA), in.A, 1);
  if (wanted[1] && in.tied(in.B)) dB = summed(std::move(dB), in.B, in.B.size(0));
  return {std::move(dA), std::move(dB), std::move(dC), std::move(ddt)};
}

}  // namespace detail

template <class Backend>
Tensor diag_kernel(const Tensor& A, const Tensor& B, const Tensor& C, const Tensor& dt, int64_t L,
                   const std::string& discretization) {
  const detail::DiagOperands in{A, B, C, dt, L, discretization};
  in.check(Check("diag_kernel"));
  Tensor out = empty(in.shape(), in.real(), C.device());
  detail::with_precision(in.single(), [&]<class T>() {
    DiagRun<Backend, T>::forward(in.args<T>(out.mutable_data<T>()));
  });
  return out;
}

// Gradients of A, B, C, dt in this order; those not wanted are empty.
template <class Backend>
detail::DiagGradients diag_kernel_backward(const Tensor& grad, const Tensor& A, const Tensor& B,
                                           const Tensor& C, const Tensor& dt, int64_t L,
                                           const std::string& discretization,
                                           std::vector<bool> wanted) {
  const Check check("diag_kernel_backward");
  const detail::DiagOperands in{A, B, C, dt, L, discretization};
  in.check(check);
  check.operand(grad, "grad", in.real(), C.device(), "(S, C, H, L)", in.shape());
  check.that(wanted.size() == 4, "wanted must name A, B, C, dt");
  return detail::with_precision(in.single(), [&]<class T>() {
    return detail::diag_kernel_backward<Backend, T>(grad, in, wanted);
  });
}

}  // namespace ecg::torch_abi

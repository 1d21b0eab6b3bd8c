// SPDX-License-Identifier: MIT
#pragma once

#include <optional>

#include "../backend_cpu.h"
#include "../check.h"
#include "ecgcore/kernels/fft_plan.h"
#include "ecgcore/kernels/s4_conv.h"

namespace ecg::torch_abi {

// How the kernels are started on each backend. E is the element of the signals.
template <class Backend, class E>
struct S4ConvRun;

template <class E>
struct S4ConvRun<Cpu, E> {
  using T = RealOf<E>;

  static int64_t groups(const S4ConvKernels<E>& kernels, int64_t features) {
    return (features + kernels.lanes - 1) / kernels.lanes;
  }
  // Elementary operations of one transform and what surrounds it.
  static int64_t cost(int64_t n) { return 64 * n; }

  static void forward(const S4ConvArgs<E>& args) {
    const auto kernels = cpu::s4_conv_kernels<E>();
    const FftPlan<T>& plan = fft_plan<T>(args.n);
    const int64_t tasks = args.batch * args.channels * groups(kernels, args.features);
    Cpu::rows(tasks, cost(args.n), [&](int64_t begin, int64_t end) {
      T* workspace = Scratch::of<T>(kernels.forward_workspace(plan));
      kernels.forward(args, plan, workspace, begin, end);
    });
  }
  static void backward(const S4ConvBackwardArgs<E>& args) {
    const auto kernels = cpu::s4_conv_kernels<E>();
    const FftPlan<T>& plan = fft_plan<T>(args.n);
    const int64_t row_cost = cost(args.n) * args.channels * (args.batch > 0 ? args.batch : 1);
    Cpu::rows(groups(kernels, args.features), row_cost, [&](int64_t begin, int64_t end) {
      T* workspace = Scratch::of<T>(kernels.backward_workspace(plan, args.channels));
      kernels.backward(args, plan, workspace, begin, end);
    });
  }
};

namespace detail {

inline bool is_half(DType dtype) { return dtype == DType::f16 || dtype == DType::bf16; }

inline void check_s4_conv(const Check& check, const Tensor& u, const Tensor& spectrum,
                          const std::optional<Tensor>& D) {
  check.dtype(u, "u", {DType::f32, DType::f64, DType::bf16, DType::f16});
  check.shape(u, "u", "(B, H, L)", {-1, -1, -1});
  check.contiguous(u, "u");
  check.at_least(u.size(2), "the length of u", 1);
  const bool wide = u.dtype() == DType::f64;
  check.operand(spectrum, "spectrum", wide ? DType::c128 : DType::c64, u.device(), "(C, H, F)",
                {-1, -1, -1});
  check.at_least(spectrum.size(0), "the number of channels of spectrum", 1);
  const int64_t bins = spectrum.size(2), n = 2 * (bins - 1);
  check.that(spectrum.size(1) == u.size(1) && bins > u.size(2),
             "spectrum must have shape (C, H, F) with H = " + std::to_string(u.size(1)) +
                 " and F >= L + 1 = " + std::to_string(u.size(2) + 1) + ", got " +
                 join(spectrum.sizes()));
  check.that(fft_has_plan(n),
             "n = 2 (F - 1) must have no prime factor above 7, got " + std::to_string(n));
  if (D) {
    check.operand(*D, "D", wide ? DType::f64 : DType::f32, u.device(), "(C, H)",
                  {spectrum.size(0), u.size(1)});
  }
}

template <class Backend, class E>
Tensor s4_conv(const Tensor& u, const Tensor& spectrum, const std::optional<Tensor>& D, bool gelu) {
  using T = RealOf<E>;
  const int64_t batch = u.size(0), features = u.size(1), length = u.size(2);
  const int64_t channels = spectrum.size(0);
  Tensor y = empty({batch, channels, features, length}, u.dtype(), u.device());
  if (y.numel() > 0) {
    S4ConvRun<Backend, E>::forward({u.data<E>(), spectrum.data<T>(), D ? D->data<T>() : nullptr,
                                    y.mutable_data<E>(), batch, channels, features, length,
                                    2 * (spectrum.size(2) - 1), gelu});
  }
  return y;
}

template <class Backend, class E>
std::tuple<Tensor, Tensor, Tensor> s4_conv_backward(const Tensor& grad, const Tensor& u,
                                                    const Tensor& spectrum,
                                                    const std::optional<Tensor>& D, bool gelu,
                                                    const std::vector<bool>& wanted) {
  using T = RealOf<E>;
  const auto make = [&](const Tensor& like, bool want) {
    return want ? empty(like.sizes(), like.dtype(), like.device()) : nothing_like(like);
  };
  Tensor du = make(u, wanted[0]), dspectrum = make(spectrum, wanted[1]);
  Tensor dD = D ? make(*D, wanted[2]) : empty({0}, DTypeOf<T>::real, u.device());
  S4ConvRun<Backend, E>::backward(
      {grad.data<E>(), u.data<E>(), spectrum.data<T>(), D ? D->data<T>() : nullptr,
       wanted[0] ? du.mutable_data<E>() : nullptr,
       wanted[1] ? dspectrum.mutable_data<T>() : nullptr,
       wanted[2] ? dD.mutable_data<T>() : nullptr, u.size(0), spectrum.size(0), u.size(1),
       u.size(2), 2 * (spectrum.size(2) - 1), gelu});
  return {std::move(du), std::move(dspectrum), std::move(dD)};
}

}  // namespace detail

template <class Backend>
Tensor s4_conv(const Tensor& u, const Tensor& spectrum, std::optional<Tensor> D, bool gelu) {
  detail::check_s4_conv(Check("s4_conv"), u, spectrum, D);
  switch (u.dtype()) {
    case DType::f64:
      return detail::s4_conv<Backend, double>(u, spectrum, D, gelu);
    case DType::f16:
      return detail::s4_conv<Backend, Float16>(u, spectrum, D, gelu);
    case DType::bf16:
      return detail::s4_conv<Backend, BFloat16>(u, spectrum, D, gelu);
    default:
      return detail::s4_conv<Backend, float>(u, spectrum, D, gelu);
  }
}

// Gradients of u, spectrum and D in this order; those not wanted are empty.
template <class Backend>
std::tuple<Tensor, Tensor, Tensor> s4_conv_backward(const Tensor& grad, const Tensor& u,
                                                    const Tensor& spectrum, std::optional<Tensor> D,
                                                    bool gelu, std::vector<bool> wanted) {
  const Check check("s4_conv_backward");
  detail::check_s4_conv(check, u, spectrum, D);
  check.operand(grad, "grad", u.dtype(), u.device(), "(B, C, H, L)",
                {u.size(0), spectrum.size(0), u.size(1), u.size(2)});
  check.that(wanted.size() == 3, "wanted must name u, spectrum, D");
  check.that(D.has_value() || !wanted[2], "the gradient of D is wanted, but there is no D");
  switch (u.dtype()) {
    case DType::f64:
      return detail::s4_conv_backward<Backend, double>(grad, u, spectrum, D, gelu, wanted);
    case DType::f16:
      return detail::s4_conv_backward<Backend, Float16>(grad, u, spectrum, D, gelu, wanted);
    case DType::bf16:
      return detail::s4_conv_backward<Backend, BFloat16>(grad, u, spectrum, D, gelu, wanted);
    default:
      return detail::s4_conv_backward<Backend, float>(grad, u, spectrum, D, gelu, wanted);
  }
}

}  // namespace ecg::torch_abi

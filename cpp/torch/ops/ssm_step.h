// SPDX-License-Identifier: MIT
#pragma once

#include "../backend_cpu.h"
#include "../check.h"
#include "ecgcore/kernels/ssm_step.h"

namespace ecg::torch_abi {

// How the kernels are started on each backend.
template <class Backend, class T>
struct SsmStepRun;

template <class T>
struct SsmStepRun<Cpu, T> {
  // Elementary operations of one row.
  static int64_t cost(const SsmStepArgs<T>& args) {
    return args.modes * (2 + 2 * args.rank + args.channels);
  }

  static void forward(const SsmStepArgs<T>& args) {
    const auto kernels = cpu::ssm_step_kernels<T>();
    Cpu::rows(args.batch * args.features, cost(args),
              [&](int64_t begin, int64_t end) { kernels.forward(args, begin, end); });
  }
  static void backward(const SsmStepBackwardArgs<T>& args) {
    const auto kernels = cpu::ssm_step_kernels<T>();
    const SsmStepArgs<T>& in = args.forward;
    Cpu::rows(in.batch * in.features, 2 * cost(in),
              [&](int64_t begin, int64_t end) { kernels.backward(args, begin, end); });
    if (args.dA || args.dB || args.dC || args.dP || args.dQ) {
      Cpu::rows(in.features, (1 + in.batch) * cost(in),
                [&](int64_t begin, int64_t end) { kernels.backward_sums(args, begin, end); });
    }
  }
};

namespace detail {

struct SsmStepInputs {
  const Tensor &state, &u, &A, &B, &C, &P, &Q;
};

inline void check_ssm_step(const Check& check, const SsmStepInputs& in) {
  check.dtype(in.state, "state", {DType::c64, DType::c128});
  check.shape(in.state, "state", "(B, H, N)", {-1, -1, -1});
  check.contiguous(in.state, "state");
  const DType dtype = in.state.dtype();
  const DType real = dtype == DType::c64 ? DType::f32 : DType::f64;
  const Device device = in.state.device();
  const int64_t batch = in.state.size(0), features = in.state.size(1), modes = in.state.size(2);
  check.at_least(modes, "the number of modes of state", 1);
  check.operand(in.u, "u", real, device, "(B, H)", {batch, features});
  check.operand(in.A, "A", dtype, device, "(H, N)", {features, modes});
  check.operand(in.B, "B", dtype, device, "(H, N)", {features, modes});
  const auto stacked = [&](const Tensor& tensor, const char* name, const char* symbols) {
    const int64_t rows = tensor.dim() == 3 ? tensor.size(0) : -1;
    check.operand(tensor, name, dtype, device, symbols, {rows, features, modes});
  };
  stacked(in.C, "C", "(C, H, N)");
  stacked(in.P, "P", "(R, H, N)");
  check.operand(in.Q, "Q", dtype, device, "(R, H, N)", in.P.sizes());
}

template <class T>
SsmStepArgs<T> ssm_step_args(const SsmStepInputs& in, T* y, T* next) {
  return {in.state.data<T>(),
          in.u.data<T>(),
          in.A.data<T>(),
          in.B.data<T>(),
          in.C.data<T>(),
          in.P.data<T>(),
          in.Q.data<T>(),
          y,
          next,
          in.state.size(0),
          in.state.size(1),
          in.state.size(2),
          in.C.size(0),
          in.P.size(0)};
}

template <class Backend, class T>
std::tuple<Tensor, Tensor> ssm_step(const SsmStepInputs& in) {
  const Device device = in.state.device();
  Tensor y = empty({in.state.size(0), in.C.size(0), in.state.size(1)}, in.u.dtype(), device);
  Tensor next = empty(in.state.sizes(), in.state.dtype(), device);
  if (next.numel() > 0) {
    SsmStepRun<Backend, T>::forward(
        ssm_step_args<T>(in, y.mutable_data<T>(), next.mutable_data<T>()));
  }
  return {std::move(y), std::move(next)};
}

using SsmStepGradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <class Backend, class T>
SsmStepGradients ssm_step_backward(const Tensor& grad_y, const Tensor& grad_next,
                                   const SsmStepInputs& in, const Tensor& next,
                                   const std::vector<bool>& wanted) {
  const Device device = in.state.device();
  const auto make = [&](const Tensor& like, size_t i) {
    return wanted[i] ? empty(like.sizes(), like.dtype(), device) : nothing_like(like);
  };
  Tensor dstate = make(in.state, 0), du = make(in.u, 1), dA = make(in.A, 2), dB = make(in.B, 3),
         dC = make(in.C, 4), dP = make(in.P, 5), dQ = make(in.Q, 6);
  const auto pointer = [&](Tensor& tensor, size_t i) {
    return wanted[i] ? tensor.mutable_data<T>() : nullptr;
  };
  const Tensor G = empty(in.state.sizes(), in.state.dtype(), device);
  const std::vector<int64_t> sums = {in.state.size(0), in.P.size(0), in.state.size(1)};
  const Tensor s = empty(sums, in.u.dtype(), device), t = empty(sums, in.u.dtype(), device);
  SsmStepRun<Backend, T>::backward({grad_y.data<T>(), grad_next.data<T>(), next.data<T>(),
                                    ssm_step_args<T>(in, nullptr, nullptr), G.mutable_data<T>(),
                                    s.mutable_data<T>(), t.mutable_data<T>(), pointer(dstate, 0),
                                    pointer(du, 1), pointer(dA, 2), pointer(dB, 3), pointer(dC, 4),
                                    pointer(dP, 5), pointer(dQ, 6)});
  return {std::move(dstate), std::move(du), std::move(dA), std::move(dB),
          std::move(dC),     std::move(dP), std::move(dQ)};
}

}  // namespace detail

template <class Backend>
std::tuple<Tensor, Tensor> ssm_step(const Tensor& state, const Tensor& u, const Tensor& A,
                                    const Tensor& B, const Tensor& C, const Tensor& P,
                                    const Tensor& Q) {
  const detail::SsmStepInputs in{state, u, A, B, C, P, Q};
  detail::check_ssm_step(Check("ssm_step"), in);
  return state.dtype() == DType::c64 ? detail::ssm_step<Backend, float>(in)
                                     : detail::ssm_step<Backend, double>(in);
}

// Gradients of state, u, A, B, C, P, Q in this order; those not wanted are empty. `next` is the
// state that the forward call returned.
template <class Backend>
detail::SsmStepGradients ssm_step_backward(const Tensor& grad_y, const Tensor& grad_next,
                                           const Tensor& state, const Tensor& u, const Tensor& A,
                                           const Tensor& B, const Tensor& C, const Tensor& P,
                                           const Tensor& Q, const Tensor& next,
                                           std::vector<bool> wanted) {
  const Check check("ssm_step_backward");
  const detail::SsmStepInputs in{state, u, A, B, C, P, Q};
  detail::check_ssm_step(check, in);
  check.operand(grad_y, "grad_y", u.dtype(), state.device(), "(B, C, H)",
                {state.size(0), C.size(0), state.size(1)});
  for (const auto& [tensor, name] :
       {std::pair(&grad_next, "grad_next"), std::pair(&next, "next")}) {
    check.operand(*tensor, name, state.dtype(), state.device(), "(B, H, N)", state.sizes());
  }
  check.that(wanted.size() == 7, "wanted must name state, u, A, B, C, P, Q");
  return state.dtype() == DType::c64
             ? detail::ssm_step_backward<Backend, float>(grad_y, grad_next, in, next, wanted)
             : detail::ssm_step_backward<Backend, double>(grad_y, grad_next, in, next, wanted);
}

}  // namespace ecg::torch_abi

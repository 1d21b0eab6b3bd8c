// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <optional>

#include "../backend_cpu.h"
#include "../check.h"
#include "ecgcore/kernels/fft_plan.h"
#include "ecgcore/kernels/nplr.h"

namespace ecg::torch_abi {

// How the NPLR kernels are started on each backend.
template <class Backend, class T>
struct NplrRun;

template <class T>
struct NplrRun<Cpu, T> {
  static void nodes(const NplrNodesArgs<T>& args) {
    const auto kernels = cpu::nplr_kernels<T>();
    Cpu::rows(args.node_stride, 256,
              [&](int64_t begin, int64_t end) { kernels.nodes(args, begin, end); });
  }
  static void forward(const NplrArgs<T>& args) {
    const auto kernels = cpu::nplr_kernels<T>();
    features(args, kernels.forward_scratch(args), [&](T* scratch, int64_t begin, int64_t end) {
      kernels.forward(args, scratch, begin, end);
    });
  }
  static void backward(const NplrBackwardArgs<T>& args) {
    const auto kernels = cpu::nplr_kernels<T>();
    features(args.inputs, kernels.backward_scratch(args),
             [&](T* scratch, int64_t begin, int64_t end) {
               kernels.backward(args, scratch, begin, end);
             });
  }
  static void kernel(const NplrKernelArgs<T>& args) {
    const auto kernels = cpu::nplr_kernels<T>();
    const FftPlan<T>& plan = fft_plan<T>(fft_plan_length(args.length));
    features(args.inputs, kernels.kernel_scratch(args, plan),
             [&](T* scratch, int64_t begin, int64_t end) {
               kernels.kernel(args, plan, scratch, begin, end);
             });
  }
  static void kernel_backward(const NplrKernelBackwardArgs<T>& args) {
    const auto kernels = cpu::nplr_kernels<T>();
    const FftPlan<T>& plan = fft_plan<T>(fft_plan_length(args.length));
    features(args.spectrum.inputs, kernels.kernel_backward_scratch(args, plan),
             [&](T* scratch, int64_t begin, int64_t end) {
               kernels.kernel_backward(args, plan, scratch, begin, end);
             });
  }
  static void sum_features(const NplrSumArgs<T>& args, int64_t rows) {
    const auto kernels = cpu::nplr_kernels<T>();
    Cpu::rows(rows * args.size, args.features,
              [&](int64_t begin, int64_t end) { kernels.sum_features(args, begin, end); });
  }

 private:
  // Features do not depend on each other, so neither do the results on the number of parts.
  template <class Body>
  static void features(const NplrArgs<T>& args, int64_t scratch_size, const Body& body) {
    Cpu::rows_with_scratch<T>(args.features, 32 * args.modes * args.node_count, scratch_size, body);
  }
};

namespace detail {

// The operands of nplr_spectrum, checked.
struct NplrOperands {
  const Tensor &A, &B, &C, &P, &Q, &dt;
  const std::optional<Tensor>& omega;
  int64_t L;

  int64_t features() const { return C.size(1); }
  int64_t modes() const { return C.size(2); }
  int64_t rows() const { return B.size(0); }
  int64_t rank() const { return P.size(0); }
  int64_t channels() const { return C.size(0); }
  int64_t node_count() const { return L / 2 + 1; }

  void check(const Check& check) const {
    check.dtype(C, "C", {DType::c64, DType::c128});
    check.shape(C, "C", "(C, H, N)", {-1, -1, -1});
    check.contiguous(C, "C");
    check.at_least(modes(), "the number of modes N of C", 1);
    check.at_least(L, "L", 1);
    shared(check, A, "A", "(H|1, N)", {});
    shared(check, B, "B", "(S, H|1, N)", {-1});
    shared(check, P, "P", "(R, H|1, N)", {-1});
    shared(check, Q, "Q", "(R, H|1, N)", {rank()});
    check.operand(dt, "dt", real(), C.device(), "(H,)", {features()});
    if (omega) check.operand(*omega, "omega", C.dtype(), C.device(), "(L//2+1,)", {node_count()});
  }

  DType real() const { return C.dtype() == DType::c64 ? DType::f32 : DType::f64; }

  bool tied(const Tensor& tensor) const {
    return tensor.size(tensor.dim() - 2) == 1 && features() != 1;
  }

  template <class T>
  NplrArgs<T> args(const Tensor& nodes, T* spectrum) const {
    return {A.data<T>(),  B.data<T>(),     C.data<T>(), P.data<T>(),  Q.data<T>(),
            dt.data<T>(), nodes.data<T>(), spectrum,    features(),   modes(),
            rows(),       channels(),      rank(),      node_count(), nodes.size(1),
            tied(A),      tied(B),         tied(P),     tied(Q)};
  }

  template <class Backend, class T>
  Tensor nodes() const {
    const int64_t stride =
        (node_count() + kNplrNodePadding - 1) / kNplrNodePadding * kNplrNodePadding;
    Tensor out = empty({5, stride}, real(), C.device());
    NplrRun<Backend, T>::nodes(
        {omega ? omega->data<T>() : nullptr, out.mutable_data<T>(), L, node_count(), stride});
    return out;
  }

 private:
  // An operand whose features may be tied: `before` are the axes ahead of them.
  void shared(const Check& check, const Tensor& tensor, const char* name, const char* symbols,
              std::vector<int64_t> before) const {
    const int64_t axis = static_cast<int64_t>(before.size());
    const bool one = tensor.dim() == axis + 2 && tensor.size(axis) == 1;
    before.insert(before.end(), {one ? 1 : features(), modes()});
    check.operand(tensor, name, C.dtype(), C.device(), symbols, before);
  }
};

template <class Backend, class T>
Tensor nplr_spectrum(const NplrOperands& in) {
  Tensor out = empty({in.rows(), in.channels(), in.features(), in.node_count()}, in.C.dtype(),
                     in.C.device());
  const Tensor nodes = in.nodes<Backend, T>();
  NplrRun<Backend, T>::forward(in.args<T>(nodes, out.mutable_data<T>()));
  return out;
}

template <class Backend, class T>
Tensor nplr_kernel(const NplrOperands& in) {
  Tensor out = empty({in.rows(), in.channels(), in.features(), in.L}, in.real(), in.C.device());
  const Tensor nodes = in.nodes<Backend, T>();
  NplrRun<Backend, T>::kernel({in.args<T>(nodes, nullptr), out.mutable_data<T>(), in.L});
  return out;
}

using NplrGradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// Gradients of A, B, C, P, Q, dt; those not wanted are empty. start(args) runs the backward kernels
// on everything but the incoming gradient.
template <class Backend, class T, class Start>
NplrGradients nplr_gradients(const NplrOperands& in, const std::vector<bool>& wanted,
                             const Start& start) {
  const std::array<const Tensor*, 6> inputs{&in.A, &in.B, &in.C, &in.P, &in.Q, &in.dt};
  // The kernels leave gradients of every feature; those of tied inputs are summed afterwards.
  std::array<Tensor, 6> each, out;
  std::array<T*, 6> to{};
  for (size_t i = 0; i < 6; ++i) {
    std::vector<int64_t> sizes = inputs[i]->sizes();
    if (sizes.size() > 1) sizes[sizes.size() - 2] = in.features();
    each[i] =
        wanted[i] ? empty(sizes, inputs[i]->dtype(), in.C.device()) : nothing_like(*inputs[i]);
    if (wanted[i]) to[i] = each[i].template mutable_data<T>();
  }
  const Tensor nodes = in.nodes<Backend, T>();
  start(NplrBackwardArgs<T>{in.args<T>(nodes, nullptr), nullptr, to[0], to[1], to[2], to[3], to[4],
                            to[5]});
  for (size_t i = 0; i < 6; ++i) {
    const bool sum = wanted[i] && i != 5 && in.tied(*inputs[i]);
    if (sum) {
      out[i] = empty(inputs[i]->sizes(), inputs[i]->dtype(), in.C.device());
      const int64_t rows = inputs[i]->dim() == 3 ? inputs[i]->size(0) : 1;
      NplrRun<Backend, T>::sum_features(
          {to[i], out[i].template mutable_data<T>(), in.features(), 2 * in.modes()}, rows);
    } else {
      out[i] = std::move(each[i]);
    }
  }
  return {std::move(out[0]), std::move(out[1]), std::move(out[2]),
          std::move(out[3]), std::move(out[4]), std::move(out[5])};
}

template <class Backend, class T>
NplrGradients nplr_spectrum_backward(const Tensor& grad, const NplrOperands& in,
                                     const std::vector<bool>& wanted) {
  return nplr_gradients<Backend, T>(in, wanted, [&](NplrBackwardArgs<T> args) {
    args.grad = grad.data<T>();
    NplrRun<Backend, T>::backward(args);
  });
}

template <class Backend, class T>
NplrGradients nplr_kernel_backward(const Tensor& grad, const NplrOperands& in,
                                   const std::vector<bool>& wanted) {
  return nplr_gradients<Backend, T>(in, wanted, [&](const NplrBackwardArgs<T>& args) {
    NplrRun<Backend, T>::kernel_backward({args, grad.data<T>(), in.L});
  });
}

inline void check_nplr_length(const Check& check, int64_t L) {
  check.that(fft_has_plan(fft_plan_length(L)),
             "L must have no prime factor above 7, got " + std::to_string(L));
}

inline void check_nplr_wanted(const Check& check, const std::vector<bool>& wanted) {
  check.that(wanted.size() == 6, "wanted must name A, B, C, P, Q, dt");
}

}  // namespace detail

template <class Backend>
Tensor nplr_spectrum(const Tensor& A, const Tensor& B, const Tensor& C, const Tensor& P,
                     const Tensor& Q, const Tensor& dt, const std::optional<Tensor>& omega,
                     int64_t L) {
  const detail::NplrOperands in{A, B, C, P, Q, dt, omega, L};
  in.check(Check("nplr_spectrum"));
  return C.dtype() == DType::c64 ? detail::nplr_spectrum<Backend, float>(in)
                                 : detail::nplr_spectrum<Backend, double>(in);
}

// Gradients of A, B, C, P, Q, dt in this order; those not wanted are empty.
template <class Backend>
detail::NplrGradients nplr_spectrum_backward(const Tensor& grad, const Tensor& A, const Tensor& B,
                                             const Tensor& C, const Tensor& P, const Tensor& Q,
                                             const Tensor& dt, const std::optional<Tensor>& omega,
                                             int64_t L, std::vector<bool> wanted) {
  const Check check("nplr_spectrum_backward");
  const detail::NplrOperands in{A, B, C, P, Q, dt, omega, L};
  in.check(check);
  check.operand(grad, "grad", C.dtype(), C.device(), "(S, C, H, L//2+1)",
                {in.rows(), in.channels(), in.features(), in.node_count()});
  detail::check_nplr_wanted(check, wanted);
  return C.dtype() == DType::c64
             ? detail::nplr_spectrum_backward<Backend, float>(grad, in, wanted)
             : detail::nplr_spectrum_backward<Backend, double>(grad, in, wanted);
}

// The spectrum's inverse real transform of length L.
template <class Backend>
Tensor nplr_kernel(const Tensor& A, const Tensor& B, const Tensor& C, const Tensor& P,
                   const Tensor& Q, const Tensor& dt, const std::optional<Tensor>& omega,
                   int64_t L) {
  const Check check("nplr_kernel");
  const detail::NplrOperands in{A, B, C, P, Q, dt, omega, L};
  in.check(check);
  detail::check_nplr_length(check, L);
  return C.dtype() == DType::c64 ? detail::nplr_kernel<Backend, float>(in)
                                 : detail::nplr_kernel<Backend, double>(in);
}

template <class Backend>
detail::NplrGradients nplr_kernel_backward(const Tensor& grad, const Tensor& A, const Tensor& B,
                                           const Tensor& C, const Tensor& P, const Tensor& Q,
                                           const Tensor& dt, const std::optional<Tensor>& omega,
                                           int64_t L, std::vector<bool> wanted) {
  const Check check("nplr_kernel_backward");
  const detail::NplrOperands in{A, B, C, P, Q, dt, omega, L};
  in.check(check);
  detail::check_nplr_length(check, L);
  check.operand(grad, "grad", in.real(), C.device(), "(S, C, H, L)",
                {in.rows(), in.channels(), in.features(), L});
  detail::check_nplr_wanted(check, wanted);
  return C.dtype() == DType::c64 ? detail::nplr_kernel_backward<Backend, float>(grad, in, wanted)
                                 : detail::nplr_kernel_backward<Backend, double>(grad, in, wanted);
}

}  // namespace ecg::torch_abi

// SPDX-License-Identifier: MIT
#pragma once

#include "../backend_cpu.h"
#include "../check.h"
#include "ecgcore/kernels/cauchy.h"

namespace ecg::torch_abi {

// How the Cauchy kernels are started on each backend.
template <class Backend, class T>
struct CauchyRun;

template <class T>
struct CauchyRun<Cpu, T> {
  static void forward(const CauchyArgs<T>& args) {
    const auto kernels = cpu::cauchy_kernels<T>();
    Cpu::rows(args.rows, args.modes * args.nodes,
              [&](int64_t begin, int64_t end) { kernels.forward(args, begin, end); });
  }
  static void backward(const CauchyBackwardArgs<T>& args) {
    const auto kernels = cpu::cauchy_kernels<T>();
    if (args.dv != nullptr || args.dw != nullptr) {
      Cpu::rows(args.rows, args.modes * args.nodes,
                [&](int64_t begin, int64_t end) { kernels.backward(args, begin, end); });
    }
    if (args.dz != nullptr) {
      Cpu::rows(args.nodes, args.modes * args.rows,
                [&](int64_t begin, int64_t end) { kernels.backward_nodes(args, begin, end); });
    }
  }
};

namespace detail {

inline void check_cauchy(const Check& check, const Tensor& v, const Tensor& z, const Tensor& w) {
  check.dtype(v, "v", {DType::c64, DType::c128});
  check.shape(v, "v", "(rows, modes)", {-1, -1});
  check.contiguous(v, "v");
  check.at_least(v.size(1), "the number of modes of v", 1);
  check.operand(w, "w", v.dtype(), v.device(), "(rows, modes)", v.sizes());
  check.operand(z, "z", v.dtype(), v.device(), "(nodes,)", {-1});
}

template <class Backend, class T>
Tensor cauchy(const Tensor& v, const Tensor& z, const Tensor& w, bool conjugate_pairs) {
  Tensor out = empty({v.size(0), z.size(0)}, v.dtype(), v.device());
  CauchyRun<Backend, T>::forward({v.data<T>(), z.data<T>(), w.data<T>(), out.mutable_data<T>(),
                                  v.size(0), v.size(1), z.size(0), conjugate_pairs});
  return out;
}

template <class Backend, class T>
std::tuple<Tensor, Tensor, Tensor> cauchy_backward(const Tensor& grad, const Tensor& v,
                                                   const Tensor& z, const Tensor& w,
                                                   bool conjugate_pairs,
                                                   const std::vector<bool>& wanted) {
  const auto make = [&](const Tensor& like, bool want) {
    return want ? empty(like.sizes(), like.dtype(), like.device()) : nothing_like(like);
  };
  Tensor dv = make(v, wanted[0]), dz = make(z, wanted[1]), dw = make(w, wanted[2]);
  CauchyRun<Backend, T>::backward({grad.data<T>(), v.data<T>(), z.data<T>(), w.data<T>(),
                                   wanted[0] ? dv.mutable_data<T>() : nullptr,
                                   wanted[2] ? dw.mutable_data<T>() : nullptr,
                                   wanted[1] ? dz.mutable_data<T>() : nullptr, v.size(0), v.size(1),
                                   z.size(0), conjugate_pairs});
  return {std::move(dv), std::move(dz), std::move(dw)};
}

}  // namespace detail

template <class Backend>
Tensor cauchy(const Tensor& v, const Tensor& z, const Tensor& w, bool conjugate_pairs) {
  detail::check_cauchy(Check("cauchy"), v, z, w);
  return v.dtype() == DType::c64 ? detail::cauchy<Backend, float>(v, z, w, conjugate_pairs)
                                 : detail::cauchy<Backend, double>(v, z, w, conjugate_pairs);
}

// Gradients of v, z, w in this order; those not wanted are empty.
template <class Backend>
std::tuple<Tensor, Tensor, Tensor> cauchy_backward(const Tensor& grad, const Tensor& v,
                                                   const Tensor& z, const Tensor& w,
                                                   bool conjugate_pairs, std::vector<bool> wanted) {
  const Check check("cauchy_backward");
  detail::check_cauchy(check, v, z, w);
  check.operand(grad, "grad", v.dtype(), v.device(), "(rows, nodes)", {v.size(0), z.size(0)});
  check.that(wanted.size() == 3, "wanted must name v, z, w");
  return v.dtype() == DType::c64
             ? detail::cauchy_backward<Backend, float>(grad, v, z, w, conjugate_pairs, wanted)
             : detail::cauchy_backward<Backend, double>(grad, v, z, w, conjugate_pairs, wanted);
}

}  // namespace ecg::torch_abi

// SPDX-License-Identifier: MIT
#pragma once

#include "../backend_cpu.h"
#include "../check.h"
#include "ecgcore/kernels/vandermonde.h"

namespace ecg::torch_abi {

// How the Vandermonde kernels are started on each backend.
template <class Backend, class T>
struct VandermondeRun;

template <class T>
struct VandermondeRun<Cpu, T> {
  static void forward(const VandermondeArgs<T>& args) {
    rows(args, cpu::vandermonde_kernels<T>().forward);
  }
  static void backward(const VandermondeBackwardArgs<T>& args) {
    rows(args, cpu::vandermonde_kernels<T>().backward);
  }
  static void transpose(const VandermondeTransposeArgs<T>& args) {
    rows(args, cpu::vandermonde_kernels<T>().transpose);
  }
  static void transpose_backward(const VandermondeTransposeBackwardArgs<T>& args) {
    rows(args, cpu::vandermonde_kernels<T>().transpose_backward);
  }

 private:
  template <class Args>
  static void rows(const Args& args, void (*kernel)(const Args&, double*, int64_t, int64_t)) {
    Cpu::rows_with_scratch(
        args.rows, args.heads * args.modes * args.length,
        cpu::vandermonde_kernels<T>().scratch(args.modes),
        [&](double* scratch, int64_t begin, int64_t end) { kernel(args, scratch, begin, end); });
  }
};

namespace detail {

// v (heads, rows, modes) and log_x (rows, modes), checked.
struct VandermondeOperands {
  const Tensor &v, &log_x;
  int64_t L;

  int64_t heads() const { return v.size(0); }
  int64_t rows() const { return v.size(1); }
  int64_t modes() const { return v.size(2); }
  bool single() const { return v.dtype() == DType::c64; }
  DType real() const { return single() ? DType::f32 : DType::f64; }

  void check(const Check& check) const {
    check.dtype(v, "v", {DType::c64, DType::c128});
    check.shape(v, "v", "(heads, rows, modes)", {-1, -1, -1});
    check.contiguous(v, "v");
    check.at_least(modes(), "the number of modes of v", 1);
    check.operand(log_x, "log_x", v.dtype(), v.device(), "(rows, modes)", {rows(), modes()});
    check.at_least(L, "L", 1);
  }
  void check_samples(const Check& check, const Tensor& tensor, const char* name,
                     DType dtype) const {
    check.operand(tensor, name, dtype, v.device(), "(heads, rows, L)", {heads(), rows(), L});
  }
  Tensor samples(DType dtype) const { return empty({heads(), rows(), L}, dtype, v.device()); }
};

inline Tensor wanted_like(const Tensor& tensor, bool want) {
  return want ? empty(tensor.sizes(), tensor.dtype(), tensor.device()) : nothing_like(tensor);
}
template <class T>
T* wanted_data(const Tensor& tensor, bool want) {
  return want ? tensor.mutable_data<T>() : nullptr;
}

// Calls body.template operator()<T>() with float or double.
template <class Body>
auto with_precision(bool single, const Body& body) {
  return single ? body.template operator()<float>() : body.template operator()<double>();
}

}  // namespace detail

// v (heads, rows, modes), log_x (rows, modes): heads share their row's powers.
template <class Backend>
Tensor vandermonde(const Tensor& v, const Tensor& log_x, int64_t L, bool conjugate_pairs) {
  const detail::VandermondeOperands in{v, log_x, L};
  in.check(Check("vandermonde"));
  Tensor out = in.samples(conjugate_pairs ? in.real() : v.dtype());
  detail::with_precision(in.single(), [&]<class T>() {
    VandermondeRun<Backend, T>::forward({v.data<T>(), log_x.data<T>(), out.mutable_data<T>(),
                                         in.heads(), in.rows(), in.modes(), L, conjugate_pairs});
  });
  return out;
}

// Gradients of v and log_x in this order; those not wanted are empty.
template <class Backend>
std::tuple<Tensor, Tensor> vandermonde_backward(const Tensor& grad, const Tensor& v,
                                                const Tensor& log_x, int64_t L,
                                                bool conjugate_pairs, std::vector<bool> wanted) {
  const Check check("vandermonde_backward");
  const detail::VandermondeOperands in{v, log_x, L};
  in.check(check);
  in.check_samples(check, grad, "grad", conjugate_pairs ? in.real() : v.dtype());
  check.that(wanted.size() == 2, "wanted must name v, log_x");
  Tensor dv = detail::wanted_like(v, wanted[0]), dlog_x = detail::wanted_like(log_x, wanted[1]);
  if (!wanted[0] && !wanted[1]) return {std::move(dv), std::move(dlog_x)};
  detail::with_precision(in.single(), [&]<class T>() {
    VandermondeRun<Backend, T>::backward({grad.data<T>(), v.data<T>(), log_x.data<T>(),
                                          detail::wanted_data<T>(dv, wanted[0]),
                                          detail::wanted_data<T>(dlog_x, wanted[1]), in.heads(),
                                          in.rows(), in.modes(), L, conjugate_pairs});
  });
  return {std::move(dv), std::move(dlog_x)};
}

// u (heads, rows, L), v (heads, rows, modes), log_x (rows, modes).
template <class Backend>
Tensor vandermonde_transpose(const Tensor& u, const Tensor& v, const Tensor& log_x, int64_t L) {
  const Check check("vandermonde_transpose");
  const detail::VandermondeOperands in{v, log_x, L};
  in.check(check);
  in.check_samples(check, u, "u", in.real());
  Tensor out = detail::wanted_like(v, true);
  detail::with_precision(in.single(), [&]<class T>() {
    VandermondeRun<Backend, T>::transpose({u.data<T>(), v.data<T>(), log_x.data<T>(),
                                           out.mutable_data<T>(), in.heads(), in.rows(), in.modes(),
                                           L});
  });
  return out;
}

// Gradients of u, v and log_x in this order; those not wanted are empty.
template <class Backend>
std::tuple<Tensor, Tensor, Tensor> vandermonde_transpose_backward(const Tensor& grad,
                                                                  const Tensor& u, const Tensor& v,
                                                                  const Tensor& log_x, int64_t L,
                                                                  std::vector<bool> wanted) {
  const Check check("vandermonde_transpose_backward");
  const detail::VandermondeOperands in{v, log_x, L};
  in.check(check);
  in.check_samples(check, u, "u", in.real());
  check.operand(grad, "grad", v.dtype(), v.device(), "(heads, rows, modes)", v.sizes());
  check.that(wanted.size() == 3, "wanted must name u, v, log_x");
  Tensor du = detail::wanted_like(u, wanted[0]), dv = detail::wanted_like(v, wanted[1]);
  Tensor dlog_x = detail::wanted_like(log_x, wanted[2]);
  detail::with_precision(in.single(), [&]<class T>() {
    VandermondeRun<Backend, T>::transpose_backward(
        {grad.data<T>(), u.data<T>(), v.data<T>(), log_x.data<T>(),
         detail::wanted_data<T>(du, wanted[0]), detail::wanted_data<T>(dv, wanted[1]),
         detail::wanted_data<T>(dlog_x, wanted[2]), in.heads(), in.rows(), in.modes(), L});
  });
  return {std::move(du), std::move(dv), std::move(dlog_x)};
}

}  // namespace ecg::torch_abi

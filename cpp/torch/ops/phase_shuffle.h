// SPDX-License-Identifier: MIT
#pragma once

#include "../backend_cpu.h"
#include "../check.h"
#include "ecgcore/kernels/phase_shuffle.h"

namespace ecg::torch_abi {

// How the kernels are started on each backend. E is the element of the signals.
template <class Backend, class E>
struct PhaseShuffleRun;

template <class E>
struct PhaseShuffleRun<Cpu, E> {
  static void forward(const Check& check, const PhaseShuffleArgs<E>& args) {
    run(check, args, cpu::phase_shuffle_kernels<E>().forward);
  }
  static void adjoint(const Check& check, const PhaseShuffleArgs<E>& args) {
    run(check, args, cpu::phase_shuffle_kernels<E>().adjoint);
  }

 private:
  template <class Kernel>
  static void run(const Check& check, const PhaseShuffleArgs<E>& args, Kernel kernel) {
    for (int64_t b = 0; b < args.batch; ++b) {
      const int64_t k = args.shifts[b];
      check.that(-args.length < k && k < args.length,
                 "|shifts| must be below L = " + std::to_string(args.length) + ", got " +
                     std::to_string(k));
    }
    Cpu::rows(args.batch * args.channels, args.length,
              [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
  }
};

namespace detail {

template <class Backend, class E>
Tensor phase_shuffle(const Check& check, const Tensor& in, const Tensor& shifts, bool adjoint) {
  Tensor out = empty(in.sizes(), in.dtype(), in.device());
  const PhaseShuffleArgs<E> args{
      in.data<E>(), shifts.data<int64_t>(), out.mutable_data<E>(), in.size(0), in.size(1),
      in.size(2)};
  if (adjoint) {
    PhaseShuffleRun<Backend, E>::adjoint(check, args);
  } else {
    PhaseShuffleRun<Backend, E>::forward(check, args);
  }
  return out;
}

template <class Backend>
Tensor phase_shuffle(const Check& check, const char* name, const Tensor& in, const Tensor& shifts,
                     bool adjoint) {
  check.dtype(in, name, {DType::f32, DType::f64, DType::bf16, DType::f16});
  check.shape(in, name, "(B, C, L)", {-1, -1, -1});
  check.contiguous(in, name);
  check.at_least(in.size(2), "L", 1);
  check.operand(shifts, "shifts", DType::i64, in.device(), "(B,)", {in.size(0)});
  switch (in.dtype()) {
    case DType::f64:
      return phase_shuffle<Backend, double>(check, in, shifts, adjoint);
    case DType::f16:
      return phase_shuffle<Backend, Float16>(check, in, shifts, adjoint);
    case DType::bf16:
      return phase_shuffle<Backend, BFloat16>(check, in, shifts, adjoint);
    default:
      return phase_shuffle<Backend, float>(check, in, shifts, adjoint);
  }
}

}  // namespace detail

template <class Backend>
Tensor phase_shuffle(const Tensor& x, const Tensor& shifts) {
  return detail::phase_shuffle<Backend>(Check("phase_shuffle"), "x", x, shifts, false);
}

template <class Backend>
Tensor phase_shuffle_adjoint(const Tensor& grad, const Tensor& shifts) {
  return detail::phase_shuffle<Backend>(Check("phase_shuffle_adjoint"), "grad", grad, shifts, true);
}

}  // namespace ecg::torch_abi

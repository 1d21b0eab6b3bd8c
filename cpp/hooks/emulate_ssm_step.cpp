// SPDX-License-Identifier: MIT
#include "ecgcore/cuda/ssm_step.h"
#include "emulate.h"

namespace ecg::emulate {
namespace {

template <class T>
SsmStepArgs<T> inputs(const ComplexArray<T>& state, const Array<T>& u, const ComplexArray<T>& A,
                      const ComplexArray<T>& B, const ComplexArray<T>& C, const ComplexArray<T>& P,
                      const ComplexArray<T>& Q) {
  return {reals(state),   u.data(),       reals(A),   reals(B),  reals(C),
          reals(P),       reals(Q),       nullptr,    nullptr,   state.shape(0),
          state.shape(1), state.shape(2), C.shape(0), P.shape(0)};
}

template <class T>
void bind(py::module_& m) {
  m.def("ssm_step", [](const ComplexArray<T>& state, const Array<T>& u, const ComplexArray<T>& A,
                       const ComplexArray<T>& B, const ComplexArray<T>& C, const ComplexArray<T>& P,
                       const ComplexArray<T>& Q, const std::string& order, uint64_t seed) {
    auto args = inputs<T>(state, u, A, B, C, P, Q);
    auto y = poisoned<T>({args.batch, args.channels, args.features});
    auto next = poisoned<std::complex<T>>({args.batch, args.features, args.modes});
    args.y = y.mutable_data();
    args.next = reals(next);
    Emulate{order_of(order), seed}(cuda::SsmStepForward<T>{args});
    return py::make_tuple(y, next);
  });
  m.def("ssm_step_backward",
        [](const Array<T>& grad_y, const ComplexArray<T>& grad_next, const ComplexArray<T>& state,
           const Array<T>& u, const ComplexArray<T>& A, const ComplexArray<T>& B,
           const ComplexArray<T>& C, const ComplexArray<T>& P, const ComplexArray<T>& Q,
           const ComplexArray<T>& next, const std::vector<bool>& wanted, const std::string& order,
           uint64_t seed) {
          const auto in = inputs<T>(state, u, A, B, C, P, Q);
          const auto like = [](const auto& array) {
            return poisoned<std::complex<T>>({array.shape(), array.shape() + array.ndim()});
          };
          auto dstate = like(state), dA = like(A), dB = like(B), dC = like(C), dP = like(P),
               dQ = like(Q), G = like(state);
          auto du = poisoned<T>({in.batch, in.features});
          auto s = poisoned<T>({in.batch, in.rank, in.features});
          auto t = poisoned<T>({in.batch, in.rank, in.features});
          const auto pointer = [&](auto& array, size_t i) {
            return wanted.at(i) ? reals(array) : nullptr;
          };
          const SsmStepBackwardArgs<T> args{grad_y.data(),
                                            reals(grad_next),
                                            reals(next),
                                            in,
                                            reals(G),
                                            s.mutable_data(),
                                            t.mutable_data(),
                                            pointer(dstate, 0),
                                            wanted.at(1) ? du.mutable_data() : nullptr,
                                            pointer(dA, 2),
                                            pointer(dB, 3),
                                            pointer(dC, 4),
                                            pointer(dP, 5),
                                            pointer(dQ, 6)};
          cuda::ssm_step_backward_programs(args, Emulate{order_of(order), seed});
          return py::make_tuple(dstate, du, dA, dB, dC, dP, dQ);
        });
}

}  // namespace

void bind_ssm_step(py::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace ecg::emulate

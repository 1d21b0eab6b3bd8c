// SPDX-License-Identifier: MIT
#include "ecgcore/cuda/diag.h"
#include "emulate.h"

namespace ecg::emulate {
namespace {

template <class Args>
void run(const Args& args, const std::string& order, uint64_t seed) {
  auto scratch = poisoned<double>({cuda::diag_scratch(args)});
  cuda::diag_programs(args, scratch.mutable_data(), Emulate{order_of(order), seed});
}

template <class T>
DiagArgs<T> args_of(const ComplexArray<T>& A, const ComplexArray<T>& B, const ComplexArray<T>& C,
                    const Array<T>& dt, int64_t length, int discretization, T* out) {
  const int64_t features = dt.shape(0);
  return {reals(A),
          reals(B),
          reals(C),
          dt.data(),
          out,
          features,
          C.shape(2),
          B.shape(0),
          C.shape(0),
          length,
          static_cast<Discretization>(discretization),
          A.shape(0) == 1 && features != 1,
          B.shape(1) == 1 && features != 1};
}

template <class T>
void bind(py::module_& m) {
  m.def("diag_kernel", [](const ComplexArray<T>& A, const ComplexArray<T>& B,
                          const ComplexArray<T>& C, const Array<T>& dt, int64_t length,
                          int discretization, const std::string& order, uint64_t seed) {
    auto out = poisoned<T>({B.shape(0), C.shape(0), dt.shape(0), length});
    run(args_of(A, B, C, dt, length, discretization, out.mutable_data()), order, seed);
    return out;
  });
  // Gradients of A, B, C, dt, each per feature; those not wanted stay as they were: NaN.
  m.def("diag_kernel_backward",
        [](const Array<T>& grad, const ComplexArray<T>& A, const ComplexArray<T>& B,
           const ComplexArray<T>& C, const Array<T>& dt, int64_t length, int discretization,
           const std::vector<bool>& wanted, const std::string& order, uint64_t seed) {
          const py::ssize_t H = dt.shape(0), N = C.shape(2);
          auto dA = poisoned<std::complex<T>>({H, N});
          auto dB = poisoned<std::complex<T>>({B.shape(0), H, N});
          auto dC = poisoned<std::complex<T>>({C.shape(0), H, N});
          auto ddt = poisoned<T>({H});
          const auto where = [&](size_t i, T* to) { return wanted.at(i) ? to : nullptr; };
          run(DiagBackwardArgs<T>{args_of<T>(A, B, C, dt, length, discretization, nullptr),
                                  grad.data(), where(0, reals(dA)), where(1, reals(dB)),
                                  where(2, reals(dC)), where(3, ddt.mutable_data())},
              order, seed);
          return py::make_tuple(dA, dB, dC, ddt);
        });
}

}  // namespace

void bind_diag(py::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace ecg::emulate

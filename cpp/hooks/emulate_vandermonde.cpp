// SPDX-License-Identifier: MIT
#include "ecgcore/cuda/vandermonde.h"
#include "emulate.h"

namespace ecg::emulate {
namespace {

template <class Args>
void run(const Args& args, const std::string& order, uint64_t seed) {
  auto scratch = poisoned<double>({cuda::vandermonde_scratch(args)});
  cuda::vandermonde_programs(args, scratch.mutable_data(), Emulate{order_of(order), seed});
}

// Where the gradients that are not wanted stay as they were: NaN.
template <class T>
void bind(py::module_& m) {
  m.def("vandermonde", [](const ComplexArray<T>& v, const ComplexArray<T>& log_x, int64_t length,
                          const std::string& order, uint64_t seed) {
    auto out = poisoned<T>({v.shape(0), v.shape(1), length});
    run(VandermondeArgs<T>{reals(v), reals(log_x), out.mutable_data(), v.shape(0), v.shape(1),
                           v.shape(2), length, true},
        order, seed);
    return out;
  });
  m.def("vandermonde_plain", [](const ComplexArray<T>& v, const ComplexArray<T>& log_x,
                                int64_t length, const std::string& order, uint64_t seed) {
    auto out = poisoned<std::complex<T>>({v.shape(0), v.shape(1), length});
    run(VandermondeArgs<T>{reals(v), reals(log_x), reals(out), v.shape(0), v.shape(1), v.shape(2),
                           length, false},
        order, seed);
    return out;
  });
  const auto backward = [](const T* grad, const ComplexArray<T>& v, const ComplexArray<T>& log_x,
                           int64_t length, bool pairs, const std::vector<bool>& wanted,
                           const std::string& order, uint64_t seed) {
    auto dv = poisoned<std::complex<T>>({v.shape(0), v.shape(1), v.shape(2)});
    auto dlog_x = poisoned<std::complex<T>>({v.shape(1), v.shape(2)});
    run(VandermondeBackwardArgs<T>{grad, reals(v), reals(log_x), wanted.at(0) ? reals(dv) : nullptr,
                                   wanted.at(1) ? reals(dlog_x) : nullptr, v.shape(0), v.shape(1),
                                   v.shape(2), length, pairs},
        order, seed);
    return py::make_tuple(dv, dlog_x);
  };
  m.def("vandermonde_backward",
        [backward](const Array<T>& grad, const ComplexArray<T>& v, const ComplexArray<T>& log_x,
                   int64_t length, const std::vector<bool>& wanted, const std::string& order,
                   uint64_t seed) {
          return backward(grad.data(), v, log_x, length, true, wanted, order, seed);
        });
  m.def("vandermonde_plain_backward",
        [backward](const ComplexArray<T>& grad, const ComplexArray<T>& v,
                   const ComplexArray<T>& log_x, int64_t length, const std::vector<bool>& wanted,
                   const std::string& order, uint64_t seed) {
          return backward(reals(grad), v, log_x, length, false, wanted, order, seed);
        });
  m.def("vandermonde_transpose",
        [](const Array<T>& u, const ComplexArray<T>& v, const ComplexArray<T>& log_x,
           const std::string& order, uint64_t seed) {
          auto out = poisoned<std::complex<T>>({v.shape(0), v.shape(1), v.shape(2)});
          run(VandermondeTransposeArgs<T>{u.data(), reals(v), reals(log_x), reals(out), v.shape(0),
                                          v.shape(1), v.shape(2), u.shape(2)},
              order, seed);
          return out;
        });
  m.def("vandermonde_transpose_backward",
        [](const ComplexArray<T>& grad, const Array<T>& u, const ComplexArray<T>& v,
           const ComplexArray<T>& log_x, const std::vector<bool>& wanted, const std::string& order,
           uint64_t seed) {
          auto du = poisoned<T>({u.shape(0), u.shape(1), u.shape(2)});
          auto dv = poisoned<std::complex<T>>({v.shape(0), v.shape(1), v.shape(2)});
          auto dlog_x = poisoned<std::complex<T>>({v.shape(1), v.shape(2)});
          run(VandermondeTransposeBackwardArgs<T>{reals(grad), u.data(), reals(v), reals(log_x),
                                                  wanted.at(0) ? du.mutable_data() : nullptr,
                                                  wanted.at(1) ? reals(dv) : nullptr,
                                                  wanted.at(2) ? reals(dlog_x) : nullptr,
                                                  v.shape(0), v.shape(1), v.shape(2), u.shape(2)},
              order, seed);
          return py::make_tuple(du, dv, dlog_x);
        });
}

}  // namespace

void bind_vandermonde(py::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace ecg::emulate

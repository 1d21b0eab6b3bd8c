// SPDX-License-Identifier: MIT
//
// ecgcore._C.emulate: the CUDA kernels' block programs, run on the host (cuda/include/ecgcore/cuda/
// emulator.h). One file an op. Functions take numpy arrays of one precision; their trailing
// arguments choose the order in which threads and blocks run, "forward", "reverse" or "random", and
// the seed of the last.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <complex>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "ecgcore/cuda/element.h"
#include "ecgcore/cuda/emulator.h"
#include "ecgcore/cuda/stream.h"

namespace ecg::emulate {

namespace py = pybind11;
using cuda::Error;
using cuda::Order;

template <class S>
using Array = py::array_t<S, py::array::c_style>;
template <class T>
using ComplexArray = Array<std::complex<T>>;

inline Order order_of(const std::string& name) {
  if (name == "forward") return Order::kForward;
  if (name == "reverse") return Order::kReverse;
  if (name == "random") return Order::kRandom;
  throw py::value_error("order must be forward, reverse or random, got '" + name + "'");
}

// Starts a program as a launcher does, on the emulator.
struct Emulate {
  Order order;
  uint64_t seed;
  template <class Program>
  Error operator()(const Program& program) const {
    cuda::emulate(program, order, seed);
    return nullptr;
  }
};

inline void check(Error error) {
  if (error != nullptr) throw std::runtime_error(error);
}

// Memory nobody has written: NaN.
template <class S>
Array<S> poisoned(const std::vector<py::ssize_t>& shape) {
  Array<S> out(shape);
  std::memset(static_cast<void*>(out.mutable_data()), 0xff, static_cast<size_t>(out.nbytes()));
  return out;
}

template <class T>
const T* reals(const ComplexArray<T>& array) {
  return reinterpret_cast<const T*>(array.data());
}
template <class T>
T* reals(ComplexArray<T>& array) {
  return reinterpret_cast<T*>(array.mutable_data());
}

// Signals of half precision travel as float and are rounded here, once, as torch would store them.
template <class E>
std::vector<E> elements(const Array<RealOf<E>>& from) {
  std::vector<E> out(static_cast<size_t>(from.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    cuda::store_element(out.data(), static_cast<int64_t>(i), from.data()[i]);
  }
  return out;
}
template <class E>
Array<RealOf<E>> reals_of(const std::vector<E>& from, const std::vector<py::ssize_t>& shape) {
  auto out = poisoned<RealOf<E>>(shape);
  for (size_t i = 0; i < from.size(); ++i) {
    out.mutable_data()[i] = cuda::load_element(from.data(), static_cast<int64_t>(i));
  }
  return out;
}

// body.template operator()<E>() for a dtype whose real type is T.
template <class T, class Body>
auto with_element(const std::string& dtype, const Body& body) {
  if constexpr (sizeof(T) == sizeof(double)) {
    if (dtype == "float64") return body.template operator()<double>();
  } else {
    if (dtype == "float32") return body.template operator()<float>();
    if (dtype == "float16") return body.template operator()<Float16>();
    if (dtype == "bfloat16") return body.template operator()<BFloat16>();
  }
  throw py::value_error("dtype '" + dtype + "' does not go with these arrays");
}

void bind_add_layer_norm(py::module_& m);
void bind_cauchy(py::module_& m);
void bind_conditional_batch_norm(py::module_& m);
void bind_diag(py::module_& m);
void bind_local_attention(py::module_& m);
void bind_nplr(py::module_& m);
void bind_phase_shuffle(py::module_& m);
void bind_philox(py::module_& m);
void bind_residual_update(py::module_& m);
void bind_s4_conv(py::module_& m);
void bind_s4_conv_rows(py::module_& m);
void bind_ssm_step(py::module_& m);
void bind_vandermonde(py::module_& m);
void bind_all(py::module_& m);

}  // namespace ecg::emulate

// SPDX-License-Identifier: MIT
//
// Host test hooks: the floor-1 formulas as Python functions, in float and double and at every SIMD
// width, so that tests hold them against numpy. One file an op; each binds into the submodule
// ecgcore._C.hooks.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <complex>
#include <stdexcept>
#include <string>

#include "ecgcore/math/pack.h"

namespace ecg::hooks {

namespace py = pybind11;

using ComplexArray = py::array_t<std::complex<double>, py::array::c_style | py::array::forcecast>;
using RealArray = py::array_t<double, py::array::c_style | py::array::forcecast>;

// Calls body.template operator()<R>() with the real-like type that (precision, width) names: float
// or double, a scalar at width 1, else a Pack.
template <class Body>
auto with_real(const std::string& precision, int width, const Body& body) {
  const auto at_width = [&]<class T>() {
    switch (width) {
      case 1:
        return body.template operator()<T>();
      case 2:
        return body.template operator()<Pack<T, 2>>();
      case 4:
        return body.template operator()<Pack<T, 4>>();
      case 8:
        return body.template operator()<Pack<T, 8>>();
      case 16:
        return body.template operator()<Pack<T, 16>>();
      default:
        throw std::invalid_argument("width must be 1, 2, 4, 8 or 16");
    }
  };
  if (precision == "float32") return at_width.template operator()<float>();
  if (precision == "float64") return at_width.template operator()<double>();
  throw std::invalid_argument("precision must be float32 or float64");
}

void bind_cauchy(py::module_& m);
void bind_nplr(py::module_& m);
void bind_fft(py::module_& m);
void bind_packed_tiles(py::module_& m);

}  // namespace ecg::hooks

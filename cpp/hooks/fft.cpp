// SPDX-License-Identifier: MIT
#include "ecgcore/math/fft.h"

#include <vector>

#include "ecgcore/kernels/fft_plan.h"
#include "ecgcore/math/activation.h"
#include "hooks.h"

namespace ecg::hooks {
namespace {

template <class R>
using Scalar = typename RealTraits<R>::Scalar;

// Lane i of a real-like number, in memory.
template <class R>
Scalar<R>& lane(R& x, int i) {
  return reinterpret_cast<Scalar<R>*>(&x)[i];
}

// rows (lanes, n) to (lanes, n/2 + 1)
template <class R>
ComplexArray forward(const RealArray& rows) {
  constexpr int kWidth = RealTraits<R>::kWidth;
  const py::ssize_t n = rows.shape(1);
  const auto& plan = fft_plan<Scalar<R>>(n);
  std::vector<R> x(n);
  std::vector<Complex<R>> z(n / 2), bins(n / 2 + 1);
  for (py::ssize_t j = 0; j < n; ++j) {
    for (int i = 0; i < kWidth; ++i) lane(x[j], i) = static_cast<Scalar<R>>(rows.at(i, j));
  }
  const FftToBins<R> visit{bins.data(), plan.single_bins()};
  fft_split(plan, n, x.data(), x.data(), z.data(), visit);
  ComplexArray out({py::ssize_t{kWidth}, n / 2 + 1});
  for (py::ssize_t k = 0; k <= n / 2; ++k) {
    const int32_t place = plan.places[k];
    Complex<R> bin = bins[place >= 0 ? place : -1 - place];
    if (place < 0) bin = conj(bin);
    for (int i = 0; i < kWidth; ++i) out.mutable_at(i, k) = {lane(bin.re, i), lane(bin.im, i)};
  }
  return out;
}

// spectrum (lanes, n/2 + 1) to rows (lanes, n)
template <class R>
RealArray inverse(const ComplexArray& spectrum) {
  constexpr int kWidth = RealTraits<R>::kWidth;
  const py::ssize_t n = 2 * (spectrum.shape(1) - 1);
  const auto& plan = fft_plan<Scalar<R>>(n);
  std::vector<R> x(n);
  std::vector<Complex<R>> z(n / 2), bins(n / 2 + 1);
  for (py::ssize_t k = 0; k <= n / 2; ++k) {
    const int32_t place = plan.places[k];
    Complex<R>& bin = bins[place >= 0 ? place : -1 - place];
    for (int i = 0; i < kWidth; ++i) {
      lane(bin.re, i) = static_cast<Scalar<R>>(spectrum.at(i, k).real());
      lane(bin.im, i) = static_cast<Scalar<R>>(spectrum.at(i, k).imag());
    }
    if (place < 0) bin = conj(bin);
  }
  const FftFromBins<R> visit{bins.data(), plan.single_bins()};
  fft_from_values(plan, z.data(), visit);
  fft_join(plan, n, x.data(), z.data());
  RealArray out({py::ssize_t{kWidth}, n});
  for (py::ssize_t j = 0; j < n; ++j) {
    for (int i = 0; i < kWidth; ++i) {
      out.mutable_at(i, j) = static_cast<double>(lane(x[j], i)) * 2 / static_cast<double>(n);
    }
  }
  return out;
}

template <class R>
RealArray activation(const std::string& name, const RealArray& values) {
  constexpr int kWidth = RealTraits<R>::kWidth;
  RealArray out(values.size());
  for (py::ssize_t begin = 0; begin < values.size(); begin += kWidth) {
    R x(0);
    for (int i = 0; i < kWidth && begin + i < values.size(); ++i) {
      lane(x, i) = static_cast<Scalar<R>>(values.data()[begin + i]);
    }
    R y = name == "gelu" ? gelu(x) : gelu_slope(x);
    for (int i = 0; i < kWidth && begin + i < values.size(); ++i) {
      out.mutable_data()[begin + i] = lane(y, i);
    }
  }
  return out;
}

void check_rows(py::ssize_t dims, py::ssize_t rows, int width) {
  if (dims != 2 || rows != width) throw std::invalid_argument("there must be one row a lane");
}

}  // namespace

void bind_fft(py::module_& m) {
  m.def(
      "real_fft",
      [](const RealArray& rows, const std::string& precision, int width) {
        check_rows(rows.ndim(), rows.shape(0), width);
        return with_real(precision, width, [&]<class R>() { return forward<R>(rows); });
      },
      py::arg("rows"), py::arg("precision"), py::arg("width"));
  m.def(
      "real_fft_inverse",
      [](const ComplexArray& spectrum, const std::string& precision, int width) {
        check_rows(spectrum.ndim(), spectrum.shape(0), width);
        return with_real(precision, width, [&]<class R>() { return inverse<R>(spectrum); });
      },
      py::arg("spectrum"), py::arg("precision"), py::arg("width"));
  m.def(
      "activation",
      [](const std::string& name, const RealArray& values, const std::string& precision,
         int width) {
        if (name != "gelu" && name != "gelu_slope") {
          throw std::invalid_argument("name must be gelu or gelu_slope");
        }
        return with_real(precision, width, [&]<class R>() { return activation<R>(name, values); });
      },
      py::arg("name"), py::arg("values"), py::arg("precision"), py::arg("width"));
}

}  // namespace ecg::hooks

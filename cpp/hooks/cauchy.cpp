// SPDX-License-Identifier: MIT
#include "ecgcore/math/cauchy.h"

#include "hooks.h"

namespace ecg::hooks {
namespace {

// The term and its three adjoints, (4, nodes): one mode (v, w) at every node, cotangent g. Lanes
// are nodes.
template <class R>
ComplexArray terms(std::complex<double> v, std::complex<double> w, const ComplexArray& z,
                   const ComplexArray& g, bool conjugate_pairs) {
  using T = typename RealTraits<R>::Scalar;
  constexpr int kWidth = RealTraits<R>::kWidth;
  const py::ssize_t nodes = z.size();
  ComplexArray out({py::ssize_t{4}, nodes});
  const auto as_real = [](std::complex<double> x) {
    return Complex<R>{R(static_cast<T>(x.real())), R(static_cast<T>(x.imag()))};
  };
  for (py::ssize_t begin = 0; begin < nodes; begin += kWidth) {
    T plane[4][kWidth];
    for (int lane = 0; lane < kWidth; ++lane) {
      const py::ssize_t i = begin + lane < nodes ? begin + lane : nodes - 1;
      plane[0][lane] = static_cast<T>(z.data()[i].real());
      plane[1][lane] = static_cast<T>(z.data()[i].imag());
      plane[2][lane] = static_cast<T>(g.data()[i].real());
      plane[3][lane] = static_cast<T>(g.data()[i].imag());
    }
    const Complex<R> node{load_real<R>(plane[0]), load_real<R>(plane[1])};
    const Complex<R> cot{load_real<R>(plane[2]), load_real<R>(plane[3])};
    const auto evaluate = [&]<bool kPairs>() {
      const auto pair = cauchy_pair<kPairs>(node, as_real(w));
      const Complex<R> results[4] = {cauchy_term<kPairs>(as_real(v), pair),
                                     cauchy_term_dv<kPairs>(cot, pair),
                                     cauchy_term_dz<kPairs>(cot, as_real(v), pair),
                                     cauchy_term_dw<kPairs>(cot, as_real(v), pair)};
      for (int k = 0; k < 4; ++k) {
        T re[kWidth], im[kWidth];
        store_real(re, results[k].re);
        store_real(im, results[k].im);
        for (int lane = 0; lane < kWidth && begin + lane < nodes; ++lane) {
          out.mutable_data()[k * nodes + begin + lane] = {re[lane], im[lane]};
        }
      }
    };
    conjugate_pairs ? evaluate.template operator()<true>() : evaluate.template operator()<false>();
  }
  return out;
}

}  // namespace

void bind_cauchy(py::module_& m) {
  m.def(
      "cauchy_terms",
      [](std::complex<double> v, std::complex<double> w, const ComplexArray& z,
         const ComplexArray& g, bool conjugate_pairs, const std::string& precision, int width) {
        if (g.size() != z.size()) throw std::invalid_argument("z and g must have one length");
        return with_real(precision, width,
                         [&]<class R>() { return terms<R>(v, w, z, g, conjugate_pairs); });
      },
      py::arg("v"), py::arg("w"), py::arg("z"), py::arg("g"), py::arg("conjugate_pairs"),
      py::arg("precision"), py::arg("width"));
}

}  // namespace ecg::hooks

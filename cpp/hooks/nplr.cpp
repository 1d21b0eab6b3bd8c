// SPDX-License-Identifier: MIT
#include "ecgcore/math/nplr.h"

#include <vector>

#include "hooks.h"

namespace ecg::hooks {
namespace {

// One mode with numerator x y at every node: the rounded nodes themselves (c, r, y), the pair D,
// the spectrum term dt out (pair sum), and the adjoints of D for the gradient g. Lanes are nodes.
template <class R>
py::dict terms(std::complex<double> x, std::complex<double> y, std::complex<double> a, double step,
               int64_t length, const ComplexArray& omega, const ComplexArray& g) {
  using T = typename RealTraits<R>::Scalar;
  constexpr int kWidth = RealTraits<R>::kWidth;
  const py::ssize_t nodes = g.size();
  const auto narrow = [](std::complex<double> v) {
    return Complex<T>{static_cast<T>(v.real()), static_cast<T>(v.imag())};
  };
  const T dt = static_cast<T>(step);
  const NplrMode<T> mode = nplr_mode(narrow(a), dt);
  const Complex<T> weights = nplr_weights(narrow(x), narrow(y), mode);
  const NplrMode<R> lanes{R(mode.a), R(mode.b), R(mode.b_rest)};

  constexpr int kResults = 6;
  ComplexArray out({py::ssize_t{kResults}, nodes});
  RealArray used({py::ssize_t{3}, nodes});
  for (py::ssize_t begin = 0; begin < nodes; begin += kWidth) {
    T plane[7][kWidth];
    for (int lane = 0; lane < kWidth; ++lane) {
      const py::ssize_t i = begin + lane < nodes ? begin + lane : nodes - 1;
      const NplrNode<T> node =
          omega.size() == 0
              ? nplr_node<T>(i, length)
              : nplr_node<T>(Complex<double>{omega.data()[i].real(), omega.data()[i].imag()});
      const T values[] = {node.c,
                          node.r,
                          node.y,
                          node.out.re,
                          node.out.im,
                          static_cast<T>(g.data()[i].real()),
                          static_cast<T>(g.data()[i].imag())};
      for (int k = 0; k < 7; ++k) plane[k][lane] = values[k];
      for (int k = 0; k < 3; ++k) {
        used.mutable_data()[k * nodes + i] = static_cast<double>(values[k]);
      }
    }
    const auto load = [&](int k) { return load_real<R>(plane[k]); };
    const NplrNode<R> node{load(0), load(1), load(2), {load(3), load(4)}};
    const Complex<R> cotangent{load(5), load(6)};
    const Complex<R> pair = nplr_pair(node, lanes);
    const Complex<R> term =
        R(dt) * (node.out * nplr_sum(node, R(weights.re) * pair, R(weights.im) * pair));
    const auto found = nplr_pair_gradient(node, lanes, pair, cotangent);
    const Complex<R> results[kResults] = {pair,
                                          term,
                                          {found.a, found.b},
                                          found.node,
                                          nplr_sum_dq(node, cotangent),
                                          nplr_sum_dp(node, cotangent)};
    for (int k = 0; k < kResults; ++k) {
      T re[kWidth], im[kWidth];
      store_real(re, results[k].re);
      store_real(im, results[k].im);
      for (int lane = 0; lane < kWidth && begin + lane < nodes; ++lane) {
        out.mutable_data()[k * nodes + begin + lane] = {re[lane], im[lane]};
      }
    }
  }
  py::dict result;
  result["nodes"] = used;
  result["terms"] = out;
  return result;
}

// u at every node, (rank, nodes): u (I + k core) = k given or, as a column, (I + k core) u = k
// given.
template <class R, int kRank>
ComplexArray solve(double k, const ComplexArray& core, const ComplexArray& given, bool column) {
  using T = typename RealTraits<R>::Scalar;
  constexpr int kWidth = RealTraits<R>::kWidth;
  const int64_t rank = core.shape(0);
  const py::ssize_t nodes = core.shape(2);
  ComplexArray out({py::ssize_t{rank}, nodes});
  std::vector<Complex<R>> matrix(rank * rank), right(rank), inverse(rank * rank),
      work(2 * rank * rank), u(rank);
  for (py::ssize_t begin = 0; begin < nodes; begin += kWidth) {
    const auto load = [&](const ComplexArray& from, int64_t row) {
      T re[kWidth], im[kWidth];
      for (int lane = 0; lane < kWidth; ++lane) {
        const py::ssize_t i = begin + lane < nodes ? begin + lane : nodes - 1;
        re[lane] = static_cast<T>(from.data()[row * nodes + i].real());
        im[lane] = static_cast<T>(from.data()[row * nodes + i].imag());
      }
      return Complex<R>{load_real<R>(re), load_real<R>(im)};
    };
    for (int64_t m = 0; m < rank * rank; ++m) matrix[m] = load(core, m);
    for (int64_t r = 0; r < rank; ++r) right[r] = load(given, r);
    const R scale(static_cast<T>(k));
    nplr_invert<kRank>(scale, matrix.data(), rank, rank, inverse.data(), work.data());
    const auto run = [&]<bool kColumn>() {
      nplr_solve<kRank, kColumn>(scale, matrix.data(), rank, inverse.data(), rank, right.data(),
                                 u.data(), work.data());
    };
    column ? run.template operator()<true>() : run.template operator()<false>();
    for (int64_t r = 0; r < rank; ++r) {
      T re[kWidth], im[kWidth];
      store_real(re, u[r].re);
      store_real(im, u[r].im);
      for (int lane = 0; lane < kWidth && begin + lane < nodes; ++lane) {
        out.mutable_data()[r * nodes + begin + lane] = {re[lane], im[lane]};
      }
    }
  }
  return out;
}

}  // namespace

void bind_nplr(py::module_& m) {
  m.def(
      "nplr_terms",
      [](std::complex<double> x, std::complex<double> y, std::complex<double> a, double dt,
         int64_t length, const ComplexArray& omega, const ComplexArray& g,
         const std::string& precision, int width) {
        if (length < 1) throw std::invalid_argument("length must be at least 1");
        if (omega.size() == 0 ? g.size() != length / 2 + 1 : g.size() != omega.size()) {
          throw std::invalid_argument("g must have one value a node");
        }
        return with_real(precision, width,
                         [&]<class R>() { return terms<R>(x, y, a, dt, length, omega, g); });
      },
      py::arg("x"), py::arg("y"), py::arg("a"), py::arg("dt"), py::arg("length"), py::arg("omega"),
      py::arg("g"), py::arg("precision"), py::arg("width"));
  m.def(
      "nplr_solve",
      [](double k, const ComplexArray& core, const ComplexArray& given, bool column,
         const std::string& precision, int width) {
        if (core.ndim() != 3 || core.shape(0) != core.shape(1)) {
          throw std::invalid_argument("core must be (rank, rank, nodes)");
        }
        if (given.ndim() != 2 || given.shape(0) != core.shape(0) ||
            given.shape(1) != core.shape(2)) {
          throw std::invalid_argument("given must be (rank, nodes)");
        }
        return with_real(precision, width, [&]<class R>() {
          if (core.shape(0) == 1) return solve<R, 1>(k, core, given, column);
          if (core.shape(0) == 2) return solve<R, 2>(k, core, given, column);
          return solve<R, 0>(k, core, given, column);
        });
      },
      py::arg("k"), py::arg("core"), py::arg("given"), py::arg("column"), py::arg("precision"),
      py::arg("width"));
}

}  // namespace ecg::hooks

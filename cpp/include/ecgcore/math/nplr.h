// SPDX-License-Identifier: MIT
//
// The generating function of an S4 kernel (Gu, Goel, Ré 2022, appendix C.3) in real arithmetic.
//
// A node ω enters only through the ratio of s = 1 + ω and d = 2(1 − ω), so both may be multiplied
// by any u ≠ 0. We take u such that  s → c  is real and  d → r + i y.  On the unit circle
// c = cos(θ/2), y = 2 sin(θ/2), r = 0; a checkpoint's rounded nodes have a small r. With
// dt A = −a + i b, one stored mode and its conjugate share the denominator
//
//   den = (r + c a)² + (c b − y)(c b + y) + 2i y (r + c a),
//
// and the pair sum of a numerator v is (c q + (r + i y) p) / den with the real numbers
// q = 2(a Re v − b Im v), p = 2 Re v. One complex reciprocal D = 1/den therefore serves every
// numerator with four real multiply-adds. Nothing is divided by 1 + ω: Nyquist (c = 0) is a node
// like any other.
//
// Where a lightly damped mode resonates, c b − y cancels, and relative errors of b and y/c grow by
// b/a, 2600 for LegS with N = 64. Hence b is carried as a rounded product and its remainder, and
// nplr_node picks, among equivalent (c, y), a pair whose ratio survives the rounding.
//
// Gradients follow torch's convention: g = ∂loss/∂Re x + i ∂loss/∂Im x.
#pragma once

#include <cmath>

#include "ecgcore/math/complex.h"
#include "ecgcore/math/pack.h"

ECG_MATH_BEGIN

// (s, d) = (1 + ω, 2(1 − ω)) times one factor; `out` is 2 over that factor, with which the
// bracket of the Woodbury formula becomes the spectrum.
template <class R>
struct NplrNode {
  R c, r, y;
  Complex<R> out;
};

// dt A = −a + i (b + b_rest)
template <class R>
struct NplrMode {
  R a, b, b_rest;
};

// ---- nodes: always in double, then rounded
// -------------------------------------------------------

namespace nplr_detail {

// Scales (c, y), given in double, so that rounding to float hardly changes y/c. Equivalent pairs
// (λc, λy) with c a float are tried; the remainder of λy is as good as random, so n trials gain
// a factor of n. Returns λ.
ECG_HD double best_scale(double c, double y) {
  constexpr int kTrials = 32;
  if (c == 0 || y == 0) return 1;
  const double ratio = y / c;
  double best = 1e300, scale = 1;
  for (int i = 0; i < kTrials; ++i) {
    const double rounded = static_cast<double>(static_cast<float>(c * (1 - i * 0x1p-23)));
    const double want = rounded * ratio;
    const double miss = fabs(static_cast<double>(static_cast<float>(want)) - want) / fabs(want);
    scale = miss < best ? rounded : scale;
    best = miss < best ? miss : best;
  }
  return scale / c;
}

template <class T>
ECG_HD NplrNode<T> round_node(double c, double r, double y, double out_re, double out_im) {
  const double scale = sizeof(T) == sizeof(float) ? best_scale(c, y) : 1;
  return {static_cast<T>(scale * c),
          static_cast<T>(scale * r),
          static_cast<T>(scale * y),
          {static_cast<T>(scale * out_re), static_cast<T>(scale * out_im)}};
}

}  // namespace nplr_detail

// Node j of length L: ω = exp(−2πi j/L), j = 0 .. L/2. The factor is exp(iπj/L)/2.
template <class T>
ECG_HD NplrNode<T> nplr_node(int64_t j, int64_t length) {
  constexpr double kPi = 3.14159265358979323846;
  const double sine = sin(kPi * static_cast<double>(j) / static_cast<double>(length));
  // cos(x) = sin(π/2 − x): exact at Nyquist, and relatively accurate close to it.
  const double cosine =
      sin(kPi * static_cast<double>(length - 2 * j) / static_cast<double>(2 * length));
  return nplr_detail::round_node<T>(cosine, 0, 2 * sine, cosine, sine);
}

// A node given by its ω, anywhere in the complex plane. The factor is conj(s)/(2|s|).
template <class T>
ECG_HD NplrNode<T> nplr_node(Complex<double> omega) {
  const Complex<double> s{1 + omega.re, omega.im}, d{2 * (1 - omega.re), -2 * omega.im};
  const double size = sqrt(norm2(s));
  const Complex<double> turn =
      size > 0 ? Complex<double>{s.re / size, -s.im / size} : Complex<double>{0, 1};
  const Complex<double> turned = turn * d;
  return nplr_detail::round_node<T>(size / 2, turned.re / 2, turned.im / 2, turn.re, turn.im);
}

// ---- modes
// ---------------------------------------------------------------------------------------

ECG_HD NplrMode<float> nplr_mode(Complex<float> a, float dt) {
  const double b = static_cast<double>(dt) * static_cast<double>(a.im);  // exact
  const float rounded = static_cast<float>(b);
  return {-dt * a.re, rounded, static_cast<float>(b - static_cast<double>(rounded))};
}
ECG_HD NplrMode<double> nplr_mode(Complex<double> a, double dt) {
  const double b = dt * a.im;
  return {-dt * a.re, b, fma(dt, a.im, -b)};
}

// q and p of a numerator v = x y, as (q, p). In double, then rounded once: the sums of different
// numerators cancel where the low-rank part is strong, and there their errors must not add up.
template <class T>
ECG_HD Complex<T> nplr_weights(Complex<T> x, Complex<T> y, NplrMode<T> mode) {
  const double x_re = x.re, x_im = x.im, y_re = y.re, y_im = y.im;
  const double v_re = x_re * y_re - x_im * y_im, v_im = x_re * y_im + x_im * y_re;
  const double b = static_cast<double>(mode.b) + static_cast<double>(mode.b_rest);
  return {static_cast<T>(2 * (static_cast<double>(mode.a) * v_re - b * v_im)),
          static_cast<T>(2 * v_re)};
}
// Adjoint: the gradient of v from that of (q, p).
template <class R>
ECG_HD Complex<R> nplr_weights_dv(Complex<R> g, NplrMode<R> mode) {
  return {R(2) * (mode.a * g.re + g.im), R(-2) * (mode.b * g.re)};
}

// ---- one pair at one node
// ------------------------------------------------------------------------

// D = 1/den. |den| must lie between 1e-18 and 1e18 in float.
template <class R>
ECG_HD Complex<R> nplr_pair(NplrNode<R> node, NplrMode<R> mode) {
  const R m = node.r + node.c * mode.a;
  const R near = (node.c * mode.b - node.y) + node.c * mode.b_rest;
  const R far = node.c * mode.b + node.y;
  const R re = m * m + near * far;
  const R im = (node.y + node.y) * m;
  const R inverse = R(1) / (re * re + im * im);
  return {re * inverse, -(im * inverse)};
}

// The pair sum from Σ q D and Σ p D.
template <class R>
ECG_HD Complex<R> nplr_sum(NplrNode<R> node, Complex<R> sum_q, Complex<R> sum_p) {
  return node.c * sum_q + Complex<R>{node.r, node.y} * sum_p;
}
// Adjoint: the gradients of Σ q D and Σ p D from that of the pair sum.
template <class R>
ECG_HD Complex<R> nplr_sum_dq(NplrNode<R> node, Complex<R> g) {
  return node.c * g;
}
template <class R>
ECG_HD Complex<R> nplr_sum_dp(NplrNode<R> node, Complex<R> g) {
  return Complex<R>{node.r, -node.y} * g;
}

// Adjoints of D = 1/den for its gradient g: of a, of b (over 2b), and what the node's r + i y
// collects, (r + i y + c a) D² conj(g).
template <class R>
struct NplrPairGradient {
  R a, b;
  Complex<R> node;
};
template <class R>
ECG_HD NplrPairGradient<R> nplr_pair_gradient(NplrNode<R> node, NplrMode<R> mode, Complex<R> D,
                                              Complex<R> g) {
  const Complex<R> h = (D * D) * conj(g);  // −conj(gradient of den)
  const Complex<R> along = h * Complex<R>{node.r + node.c * mode.a, node.y};
  return {-((node.c + node.c) * along.re), -(node.c * node.c * h.re), along};
}

// dt ∂/∂dt at one node. A pair sum times dt has degree 0 in (r + i y, dt A, 1/dt), so its
// derivative is minus that along r + i y: no small difference of large terms at low frequencies.
// sum_p = Σ_v conj(gradient) Σ_n p D, along = Σ_n of NplrPairGradient::node.
template <class R>
ECG_HD R nplr_node_ddt(NplrNode<R> node, Complex<R> sum_p, Complex<R> along) {
  const Complex<R> slope = along + along - sum_p;
  return node.r * slope.re - node.y * slope.im;
}

// ---- Woodbury
// ------------------------------------------------------------------------------------
//
// rho is the (rows + rank, channels + rank) table of pair sums, numerators x_i y_j with x = B rows
// then P, y = C rows then Q. With k = dt c and inverse = (I + k rho_PQ)^-1,
//
//   spectrum = dt out [ rho_BC − U rho_PC ],   U = k rho_BQ inverse,   V = k inverse rho_PC.
//
// The gradient of rho is then the outer product (1, −conj U) γ (1, −conj V), γ = dt conj(out) g.

// inverse (rank, rank) of I + k core, core given with a row stride. `work` holds 2 rank² numbers,
// used from rank 2 on.
template <int kRank, class R>
ECG_HD void nplr_invert(R k, const Complex<R>* core, int64_t stride, int64_t rank_,
                        Complex<R>* inverse, Complex<R>* work) {
  const int64_t rank = kRank > 0 ? kRank : rank_;
  if constexpr (kRank == 1) {
    inverse[0] = reciprocal(Complex<R>{R(1), R(0)} + k * core[0]);
  } else {
    // Gauss-Jordan on [I + k core | I]; every lane picks its own pivots by exchanging rows.
    const int64_t width = 2 * rank;
    for (int64_t i = 0; i < rank; ++i) {
      for (int64_t j = 0; j < rank; ++j) {
        const R one = R(i == j ? 1 : 0);
        work[i * width + j] = Complex<R>{one, R(0)} + k * core[i * stride + j];
        work[i * width + rank + j] = {one, R(0)};
      }
    }
    for (int64_t p = 0; p < rank; ++p) {
      Complex<R>* pivot = work + p * width;
      for (int64_t i = p + 1; i < rank; ++i) {
        Complex<R>* row = work + i * width;
        const auto larger = norm2(row[p]) > norm2(pivot[p]);
        for (int64_t j = p; j < width; ++j) {
          const Complex<R> above = pivot[j], below = row[j];
          pivot[j] = {select(larger, below.re, above.re), select(larger, below.im, above.im)};
          row[j] = {select(larger, above.re, below.re), select(larger, above.im, below.im)};
        }
      }
      const Complex<R> scale = reciprocal(pivot[p]);
      for (int64_t j = p; j < width; ++j) pivot[j] = pivot[j] * scale;
      for (int64_t i = 0; i < rank; ++i) {
        if (i == p) continue;
        Complex<R>* row = work + i * width;
        const Complex<R> factor = row[p];
        for (int64_t j = p; j < width; ++j) row[j] -= factor * pivot[j];
      }
    }
    for (int64_t i = 0; i < rank; ++i) {
      for (int64_t j = 0; j < rank; ++j) inverse[i * rank + j] = work[i * width + rank + j];
    }
  }
}

// One row u of U, u (I + k core) = k given, or, with kColumn, one column u of V, (I + k core) u =
// k given. `rest` holds rank numbers, used from rank 2 on.
//
// What a product with a rounded inverse misses grows with the condition number, and the difference
// in the spectrum shows it. One step of refinement makes it as good as elimination (Skeel 1980).
template <int kRank, bool kColumn, class R>
ECG_HD void nplr_solve(R k, const Complex<R>* core, int64_t stride, const Complex<R>* inverse,
                       int64_t rank_, const Complex<R>* given, Complex<R>* u, Complex<R>* rest) {
  const int64_t rank = kRank > 0 ? kRank : rank_;
  // Entry r of x matrix, or of matrix x.
  const auto product = [&](const Complex<R>* x, const Complex<R>* matrix, int64_t width,
                           int64_t r) {
    Complex<R> sum{R(0), R(0)};
    for (int64_t i = 0; i < rank; ++i) {
      sum += x[i] * matrix[kColumn ? r * width + i : i * width + r];
    }
    return sum;
  };
  for (int64_t r = 0; r < rank; ++r) u[r] = k * product(given, inverse, rank, r);
  if constexpr (kRank != 1) {
    for (int64_t r = 0; r < rank; ++r) {
      rest[r] = k * (given[r] - product(u, core, stride, r)) - u[r];
    }
    for (int64_t r = 0; r < rank; ++r) u[r] += product(rest, inverse, rank, r);
  }
}

ECG_MATH_END

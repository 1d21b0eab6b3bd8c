// SPDX-License-Identifier: MIT
//
// The adjoint of the NPLR spectrum, one feature after the other. Included by nplr.cpp only, inside
// its per-instruction-set namespace.
#pragma once

#include "nplr_sums.h"

namespace ecg::cpu::ECG_ISA {
namespace {

template <class T, int W>
struct Backward {
  using R = Pack<T, W>;

  bool c_only, modes_wanted;
  Columns graded;  // columns of products that get a gradient
  int64_t grad_products;
  Feature<T, W> feature;
  Sums<T, W> sums;
  T* grad;                         // (S C, planes): the incoming gradient
  Complex<R>* gamma;               // (S, graded): γ (1, −conj V) at one vector of nodes
  Complex<R>* mixed;               // (R): rho_PC conj(γ) of one row
  T* grad_planes;                  // (products, 2, planes): gradients of the sums over q and p
  T* correlations;                 // (N, products, 2) packs: gradients of q and p
  T* sums_p;                       // (planes): Σ_v conj(gradient) Σ_n p D
  T* grad_modes;                   // (N, 2) packs: gradients of a and b/(2b)
  T* grad_weights;                 // (N, products, 2)
  SpectrumRows<const T> spectrum;  // where the incoming gradient comes from

  Backward(Pieces<T>& pieces, const NplrBackwardArgs<T>& args) {
    const NplrArgs<T>& in = args.inputs;
    const Sizes<T> sizes(in);
    modes_wanted = args.dA != nullptr || args.ddt != nullptr;
    c_only = !modes_wanted && args.dB == nullptr && args.dP == nullptr && args.dQ == nullptr;
    graded = c_only ? sizes.c_only : sizes.all;
    grad_products = sizes.rows * graded.size();
    feature.allocate(pieces, in.modes);
    sums.allocate(pieces, in, c_only ? sizes.q_only : sizes.all);
    grad = pieces.take(in.rows * in.channels * kPlanes);
    gamma = pieces.template take_packs<R>(in.rows * graded.size());
    mixed = pieces.template take_packs<R>(in.rank);
    grad_planes = pieces.take(2 * grad_products * kPlanes);
    correlations = pieces.take(in.modes * 2 * grad_products * W);
    grad_weights = pieces.take(in.modes * 2 * grad_products);
    sums_p = pieces.take(modes_wanted ? kPlanes : 0);
    grad_modes = pieces.take(modes_wanted ? in.modes * 2 * W : 0);
  }

  template <int kRank>
  void run(const NplrBackwardArgs<T>& args, int64_t h) {
    const NplrArgs<T>& in = args.inputs;
    const T dt = in.dt[h];
    feature.load_modes(in, h);
    sums.load_weights(in, feature, h);
    clear(correlations, in.modes * 2 * grad_products * W);
    if (modes_wanted) clear(grad_modes, in.modes * 2 * W);
    R ddt(0);
    for (int64_t begin = 0; begin < in.node_count; begin += kBlock) {
      feature.take_nodes(in, begin);
      feature.form_pairs(in.modes);
      sums.form(feature, in.modes);
      load_grad(in, h, begin);
      for (int lane = 0; lane < feature.width; lane += W) {
        woodbury<kRank>(in, dt, lane);
      }
      correlate<R>(grad_planes, 2 * grad_products, feature.pairs, in.modes, feature.width,
                   correlations);
      if (modes_wanted) ddt += grade_modes(in);
    }
    for (int64_t i = 0; i < in.modes * 2 * grad_products; ++i) {
      grad_weights[i] = sum_lanes(R::load(correlations + i * W));
    }
    if (modes_wanted) store_modes(args, h, sum_lanes(ddt));
    store_vectors(args, h);
  }

  static void clear(T* from, int64_t count) {
    for (int64_t i = 0; i < count; ++i) from[i] = T(0);
  }

  void load_grad(const NplrArgs<T>& in, int64_t h, int64_t begin) {
    for (int64_t row = 0; row < in.rows * in.channels; ++row) {
      const T* ECG_RESTRICT from = spectrum.at(row, h) + 2 * begin;
      T* ECG_RESTRICT to = grad + row * kPlanes;
      for (int i = 0; i < feature.count; ++i) {
        to[i] = from[2 * i];
        to[kBlock + i] = from[2 * i + 1];
      }
      for (int i = feature.count; i < feature.width; ++i) to[i] = to[kBlock + i] = T(0);
    }
  }

  // Gradients of the pair sums at one vector of nodes: (1, −conj U) γ (1, −conj V).
  template <int kRank>
  void woodbury(const NplrArgs<T>& in, T dt, int lane) {
    const NplrNode<R> node = feature.node(lane);
    sums.template couple<kRank>(in, node, dt, lane);
    const int64_t rank = kRank > 0 ? kRank : in.rank;
    for (int64_t s = 0; s < in.rows; ++s) gamma_row<kRank>(in, node, dt, lane, s);
    Complex<R> sum_p{R(0), R(0)};
    for (int64_t i = 0; i < in.rows + rank; ++i) {
      for (int64_t j = 0; j < graded.size(); ++j) {
        Complex<R> g{R(0), R(0)};
        if (i < in.rows) {
          g = gamma[i * graded.size() + j];
        } else {
          for (int64_t s = 0; s < in.rows; ++s) {
            g -= conj(sums.U[s * rank + i - in.rows]) * gamma[s * graded.size() + j];
          }
        }
        const int64_t v = i * graded.size() + j;
        T* to = grad_planes + 2 * v * kPlanes + lane;
        Feature<T, W>::store(nplr_sum_dq(node, g), to);
        Feature<T, W>::store(nplr_sum_dp(node, g), to + kPlanes);
        if (modes_wanted) {
          sum_p += conj(g) * Feature<T, W>::load(sums.planes + (2 * v + 1) * kPlanes + lane);
        }
      }
    }
    if (modes_wanted) Feature<T, W>::store(sum_p, sums_p + lane);
  }

  // Row s of γ (1, −conj V). −γ conj(V) = −conj(V conj γ) takes one solve for all channels.
  template <int kRank>
  void gamma_row(const NplrArgs<T>& in, NplrNode<R> node, T dt, int lane, int64_t s) {
    const int64_t rank = kRank > 0 ? kRank : in.rank, columns = sums.columns.size();
    const Complex<R> scale = R(dt) * conj(node.out);
    Complex<R>* row = gamma + s * graded.size();
    for (int64_t c = 0; c < in.channels; ++c) {
      row[c] = scale * Feature<T, W>::load(grad + (s * in.channels + c) * kPlanes + lane);
    }
    if (c_only) return;
    for (int64_t r = 0; r < rank; ++r) {
      const Complex<R>* rho_p = sums.rho + (in.rows + r) * columns;
      mixed[r] = {R(0), R(0)};
      for (int64_t c = 0; c < in.channels; ++c) mixed[r] += rho_p[c] * conj(row[c]);
    }
    Complex<R>* tail = row + in.channels;
    sums.template solve<kRank, true>(in, R(dt) * node.c, mixed, tail);
    for (int64_t r = 0; r < rank; ++r) tail[r] = -conj(tail[r]);
  }

  // Through D: gradients of a and b of every mode. Returns what the nodes say of dt. The gradient
  // of D itself, the sum over products, never leaves the registers.
  R grade_modes(const NplrArgs<T>& in) {
    R ddt(0);
    for (int lane = 0; lane < feature.width; lane += W) {
      const NplrNode<R> node = feature.node(lane);
      Complex<R> along{R(0), R(0)};
      weighted_rows<R>(sums.weights, 1, in.modes, grad_planes + lane, in.modes, 2 * grad_products,
                       [&](int64_t n, Complex<R> grad_pair) {
                         const auto found = nplr_pair_gradient(
                             node, feature.mode_lanes(n),
                             Feature<T, W>::load(feature.pairs + n * kPlanes + lane), grad_pair);
                         T* sum = grad_modes + 2 * n * W;
                         (R::load(sum) + found.a).store(sum);
                         (R::load(sum + W) + found.b).store(sum + W);
                         along += found.node;
                       });
      ddt += nplr_node_ddt(node, Feature<T, W>::load(sums_p + lane), along);
    }
    return ddt;
  }

  // A, through a and b of every mode in D and in q; dt A = −a + i b.
  void store_modes(const NplrBackwardArgs<T>& args, int64_t h, T ddt) const {
    const NplrArgs<T>& in = args.inputs;
    const T dt = in.dt[h];
    if (args.ddt != nullptr) args.ddt[h] = ddt / dt;
    for (int64_t n = 0; n < in.modes && args.dA != nullptr; ++n) {
      T da = sum_lanes(R::load(grad_modes + 2 * n * W));
      T db = T(2) * feature.b[n] * sum_lanes(R::load(grad_modes + (2 * n + 1) * W));
      for (int64_t i = 0; i < in.rows + in.rank; ++i) {
        const T* x = row_vector(in, i, h) + 2 * n;
        for (int64_t j = 0; j < graded.size(); ++j) {
          const T* y = column_vector(in, j, h) + 2 * n;
          const T dq = grad_weights[2 * (n * grad_products + i * graded.size() + j)];
          da += T(2) * dq * (x[0] * y[0] - x[1] * y[1]);
          db -= T(2) * dq * (x[0] * y[1] + x[1] * y[0]);
        }
      }
      T* to = args.dA + 2 * (h * in.modes + n);
      to[0] = -dt * da;
      to[1] = dt * db;
    }
  }

  // B, C, P, Q: the gradient of v = x y is conj(y) dv for x, conj(x) dv for y.
  void store_vectors(const NplrBackwardArgs<T>& args, int64_t h) const {
    const NplrArgs<T>& in = args.inputs;
    const auto place = [&](T* base, int64_t row) {
      return base == nullptr ? nullptr : base + 2 * in.modes * (row * in.features + h);
    };
    for (int64_t i = 0; i < in.rows + in.rank && !c_only; ++i) {
      T* to = i < in.rows ? place(args.dB, i) : place(args.dP, i - in.rows);
      if (to == nullptr) continue;
      for (int64_t n = 0; n < in.modes; ++n) {
        Complex<T> sum{T(0), T(0)};
        for (int64_t j = 0; j < graded.size(); ++j) {
          const T* y = column_vector(in, j, h) + 2 * n;
          sum += Complex<T>{y[0], -y[1]} * dv(i, j, n);
        }
        to[2 * n] = sum.re;
        to[2 * n + 1] = sum.im;
      }
    }
    for (int64_t j = 0; j < graded.size(); ++j) {
      T* to = j < in.channels ? place(args.dC, j) : place(args.dQ, j - in.channels);
      if (to == nullptr) continue;
      for (int64_t n = 0; n < in.modes; ++n) {
        Complex<T> sum{T(0), T(0)};
        for (int64_t i = 0; i < in.rows + in.rank; ++i) {
          const T* x = row_vector(in, i, h) + 2 * n;
          sum += Complex<T>{x[0], -x[1]} * dv(i, j, n);
        }
        to[2 * n] = sum.re;
        to[2 * n + 1] = sum.im;
      }
    }
  }

  Complex<T> dv(int64_t i, int64_t j, int64_t n) const {
    const T* g = grad_weights + 2 * (n * grad_products + i * graded.size() + j);
    return nplr_weights_dv(Complex<T>{g[0], g[1]}, feature.mode(n));
  }
};

}  // namespace
}  // namespace ecg::cpu::ECG_ISA

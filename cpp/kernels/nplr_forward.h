// SPDX-License-Identifier: MIT
//
// The NPLR spectrum, one feature after the other. Included by nplr.cpp only, inside its
// per-instruction-set namespace.
#pragma once

#include "nplr_sums.h"

namespace ecg::cpu::ECG_ISA {
namespace {

template <class T, int W>
struct Forward {
  using R = Pack<T, W>;

  Feature<T, W> feature;
  Sums<T, W> sums;
  T* result;                 // (S C, planes)
  SpectrumRows<T> spectrum;  // where it goes

  Forward(Pieces<T>& pieces, const NplrArgs<T>& args) {
    const Sizes<T> sizes(args);
    feature.allocate(pieces, args.modes);
    sums.allocate(pieces, args, sizes.all);
    result = pieces.take(args.rows * args.channels * kPlanes);
  }

  template <int kRank>
  void run(const NplrArgs<T>& args, int64_t h) {
    const T dt = args.dt[h];
    feature.load_modes(args, h);
    sums.load_weights(args, feature, h);
    for (int64_t begin = 0; begin < args.node_count; begin += kBlock) {
      feature.take_nodes(args, begin);
      feature.form_pairs(args.modes);
      sums.form(feature, args.modes);
      for (int lane = 0; lane < feature.width; lane += W) woodbury<kRank>(args, dt, lane);
      for (int64_t row = 0; row < args.rows * args.channels; ++row) {
        const T* ECG_RESTRICT from = result + row * kPlanes;
        T* ECG_RESTRICT to = spectrum.at(row, h) + 2 * begin;
        for (int i = 0; i < feature.count; ++i) {
          to[2 * i] = from[i];
          to[2 * i + 1] = from[kBlock + i];
        }
      }
    }
  }

  template <int kRank>
  void woodbury(const NplrArgs<T>& args, T dt, int lane) {
    const NplrNode<R> node = feature.node(lane);
    sums.template couple<kRank>(args, node, dt, lane);
    const int64_t rank = kRank > 0 ? kRank : args.rank, columns = sums.columns.size();
    const Complex<R> out = R(dt) * node.out;
    const Complex<R>* rho_p = sums.rho + args.rows * columns;
    for (int64_t s = 0; s < args.rows; ++s) {
      for (int64_t c = 0; c < args.channels; ++c) {
        Complex<R> sum = sums.rho[s * columns + c];
        for (int64_t k = 0; k < rank; ++k) sum -= sums.U[s * rank + k] * rho_p[k * columns + c];
        Feature<T, W>::store(out * sum, result + (s * args.channels + c) * kPlanes + lane);
      }
    }
  }
};

}  // namespace
}  // namespace ecg::cpu::ECG_ISA

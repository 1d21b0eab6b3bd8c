// SPDX-License-Identifier: MIT
//
// What forward and backward of the NPLR spectrum share: one feature's modes and resolvent pairs at
// a block of nodes, and the pair sums of a range of columns, through to Woodbury's small inverse.
// Included by nplr.cpp only, inside its per-instruction-set namespace.
#pragma once

#include "ecgcore/kernels/nplr.h"
#include "ecgcore/math/nplr.h"
#include "nplr_tiles.h"

namespace ecg::cpu::ECG_ISA {
namespace {

static_assert(kNplrNodePadding % kBlock == 0);

// Hands out pieces of a scratch array, each on a cache line; with a null array it only counts.
template <class T>
class Pieces {
 public:
  explicit Pieces(T* memory) : memory_(memory) {}
  T* take(int64_t count) {
    constexpr int64_t kLine = 64 / sizeof(T);
    T* piece = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += (count + kLine - 1) / kLine * kLine;
    return piece;
  }
  // Complex numbers of R, a pack of T.
  template <class R>
  Complex<R>* take_packs(int64_t count) {
    return reinterpret_cast<Complex<R>*>(take(count * (sizeof(Complex<R>) / sizeof(T))));
  }
  int64_t used() const { return used_; }

 private:
  T* memory_;
  int64_t used_ = 0;
};

// The table of products x_i y_j: x are the rows of B, then P; y the channels of C, then Q. A range
// of the columns, since the gradient of C alone needs less than all.
struct Columns {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

template <class T>
struct Sizes {
  explicit Sizes(const NplrArgs<T>& args)
      : modes(args.modes),
        rows(args.rows + args.rank),
        columns(args.channels + args.rank),
        all{0, columns},
        c_only{0, args.channels},
        q_only{args.channels, columns} {}
  int64_t modes, rows, columns;
  Columns all, c_only, q_only;
};

template <class T>
const T* feature_of(const T* from, int64_t row, int64_t h, bool tied, const NplrArgs<T>& args) {
  return from + 2 * args.modes * (tied ? row : row * args.features + h);
}

// x_i or y_j of one feature, (N) complex.
template <class T>
const T* row_vector(const NplrArgs<T>& args, int64_t i, int64_t h) {
  return i < args.rows ? feature_of(args.B, i, h, args.B_tied, args)
                       : feature_of(args.P, i - args.rows, h, args.P_tied, args);
}
template <class T>
const T* column_vector(const NplrArgs<T>& args, int64_t j, int64_t h) {
  return j < args.channels ? feature_of(args.C, j, h, false, args)
                           : feature_of(args.Q, j - args.channels, h, args.Q_tied, args);
}

// Rows of spectra or of their gradients, (S C, features, F) complex, of features from `first` on.
template <class T>
struct SpectrumRows {
  T* data;
  int64_t first, features, node_count;

  T* at(int64_t row, int64_t h) const {
    return data + 2 * (row * features + h - first) * node_count;
  }
};

// One feature's modes, and one block's nodes and resolvent pairs.
template <class T, int W>
struct Feature {
  using R = Pack<T, W>;

  T *a, *b, *b_rest;  // (N)
  T* pairs;           // (N, planes)
  const T* nodes;     // of this block
  int64_t node_stride;
  int count, width;  // nodes in this block; rounded up to whole vectors

  void allocate(Pieces<T>& pieces, int64_t modes) {
    for (T** piece : {&a, &b, &b_rest}) *piece = pieces.take(modes);
    pairs = pieces.take(modes * kPlanes);
  }

  NplrMode<T> mode(int64_t n) const { return {a[n], b[n], b_rest[n]}; }
  NplrMode<R> mode_lanes(int64_t n) const { return {R(a[n]), R(b[n]), R(b_rest[n])}; }
  NplrNode<R> node(int lane) const {
    const auto plane = [&](int which) { return R::load(nodes + which * node_stride + lane); };
    return {plane(0), plane(1), plane(2), {plane(3), plane(4)}};
  }

  void load_modes(const NplrArgs<T>& args, int64_t h) {
    const T* A = feature_of(args.A, 0, h, args.A_tied, args);
    for (int64_t n = 0; n < args.modes; ++n) {
      const auto mode = nplr_mode(Complex<T>{A[2 * n], A[2 * n + 1]}, args.dt[h]);
      a[n] = mode.a;
      b[n] = mode.b;
      b_rest[n] = mode.b_rest;
    }
  }

  void take_nodes(const NplrArgs<T>& args, int64_t begin) {
    const int64_t left = args.node_count - begin;
    count = static_cast<int>(left < kBlock ? left : kBlock);
    width = (count + W - 1) / W * W;
    nodes = args.nodes + begin;
    node_stride = args.node_stride;
  }

  void form_pairs(int64_t modes) {
    for (int lane = 0; lane < width; lane += W) {
      const NplrNode<R> at = node(lane);
      for (int64_t n = 0; n < modes; ++n) {
        const Complex<R> pair = nplr_pair(at, mode_lanes(n));
        store(pair, pairs + n * kPlanes + lane);
      }
    }
  }

  static void store(Complex<R> x, T* planes) {
    x.re.store(planes);
    x.im.store(planes + kBlock);
  }
  static Complex<R> load(const T* planes) { return {R::load(planes), R::load(planes + kBlock)}; }
};

// The pair sums of a range of columns, and what Woodbury makes of them.
template <class T, int W>
struct Sums {
  using R = Pack<T, W>;

  Columns columns;
  int64_t products;
  T* vectors;  // (1 + columns, 2, N): a row of the table, and all columns, split
  T* weights;  // (products, 2, N): q and p
  T* planes;   // (products, 2, planes): sums over q, over p
  Complex<R>*rho, *inverse, *U, *work;

  void allocate(Pieces<T>& pieces, const NplrArgs<T>& args, Columns range) {
    columns = range;
    products = (args.rows + args.rank) * range.size();
    vectors = pieces.take(args.modes * 2 * (range.size() + 1));
    weights = pieces.take(args.modes * products * 2);
    planes = pieces.take(products * 2 * kPlanes);
    rho = pieces.template take_packs<R>(products);
    inverse = pieces.template take_packs<R>(args.rank * args.rank);
    U = pieces.template take_packs<R>(args.rows * args.rank);
    work = pieces.template take_packs<R>(2 * args.rank * args.rank);
  }

  void load_weights(const NplrArgs<T>& args, const Feature<T, W>& feature, int64_t h) {
    const int64_t rows = args.rows + args.rank, N = args.modes;
    for (int64_t j = 0; j < columns.size(); ++j) {
      split(column_vector(args, columns.begin + j, h), N, vectors + 2 * (j + 1) * N);
    }
    for (int64_t i = 0; i < rows; ++i) {
      const T* ECG_RESTRICT x = split(row_vector(args, i, h), N, vectors);
      for (int64_t j = 0; j < columns.size(); ++j) {
        const T* ECG_RESTRICT y = vectors + 2 * (j + 1) * N;
        T* ECG_RESTRICT to = weights + 2 * (i * columns.size() + j) * N;
        for (int64_t n = 0; n < N; ++n) {
          const auto weight =
              nplr_weights(Complex<T>{x[n], x[N + n]}, Complex<T>{y[n], y[N + n]}, feature.mode(n));
          to[n] = weight.re;
          to[N + n] = weight.im;
        }
      }
    }
  }
  static const T* split(const T* ECG_RESTRICT from, int64_t count, T* ECG_RESTRICT to) {
    for (int64_t n = 0; n < count; ++n) {
      to[n] = from[2 * n];
      to[count + n] = from[2 * n + 1];
    }
    return to;
  }

  void form(const Feature<T, W>& feature, int64_t modes) {
    for (int lane = 0; lane < feature.width; lane += W) {
      weighted_rows<R>(weights, modes, 1, feature.pairs + lane, 2 * products, modes,
                       [&](int64_t i, Complex<R> sum) {
                         Feature<T, W>::store(sum, planes + i * kPlanes + lane);
                       });
    }
  }

  // rho, then the inverse of I + k rho_PQ and U, at one vector of nodes.
  template <int kRank>
  void couple(const NplrArgs<T>& args, NplrNode<R> node, T dt, int lane) {
    for (int64_t v = 0; v < products; ++v) {
      const T* at = planes + 2 * v * kPlanes + lane;
      rho[v] = nplr_sum(node, Feature<T, W>::load(at), Feature<T, W>::load(at + kPlanes));
    }
    const int64_t rank = kRank > 0 ? kRank : args.rank, q = args.channels - columns.begin;
    const R k = R(dt) * node.c;
    nplr_invert<kRank>(k, rho + args.rows * columns.size() + q, columns.size(), rank, inverse,
                       work);
    for (int64_t s = 0; s < args.rows; ++s) {
      const Complex<R>* row = rho + s * columns.size() + q;
      solve<kRank, false>(args, k, row, U + s * rank);
    }
  }

  // nplr_solve with the matrix that couple left behind.
  template <int kRank, bool kColumn>
  void solve(const NplrArgs<T>& args, R k, const Complex<R>* given, Complex<R>* u) {
    const int64_t q = args.channels - columns.begin;
    nplr_solve<kRank, kColumn>(k, rho + args.rows * columns.size() + q, columns.size(), inverse,
                               args.rank, given, u, work);
  }
};

// Fixed ranks keep the small matrices in registers.
template <class Job, class Args>
void run_features(Job& job, const Args& args, int64_t rank, int64_t begin, int64_t end) {
  for (int64_t h = begin; h < end; ++h) {
    if (rank == 1) {
      job.template run<1>(args, h);
    } else if (rank == 2) {
      job.template run<2>(args, h);
    } else {
      job.template run<0>(args, h);
    }
  }
}

}  // namespace
}  // namespace ecg::cpu::ECG_ISA

// SPDX-License-Identifier: MIT
//
// The S4 spectrum as block programs, and their launchers. Formulas and names: math/nplr.h.
//
// Numerators x_i y_j (x = B rows then P, y = C rows then Q) share one complex reciprocal D per mode
// and node; each adds four real multiply-adds. Forward: a thread owns a node, modes pass through
// shared memory. For one row of B, rank 1 and one or two channels (SSSD-ECG, DSAT-ECG) everything
// up to the spectrum stays in registers; other shapes write the table of pair sums, K numerators at
// a time, and a second kernel finishes. Backward: nplr_backward.h. docs/cuda.md has the counts.
#pragma once

#include "ecgcore/cuda/memory.h"
#include "ecgcore/cuda/stream.h"
#include "ecgcore/kernels/nplr.h"
#include "ecgcore/math/block.h"
#include "ecgcore/math/nplr.h"

namespace ecg::cuda {

// The arguments, addressed by feature and mode.
template <class T>
struct NplrView {
  NplrArgs<T> args;

  ECG_HD int64_t x_count() const { return args.rows + args.rank; }
  ECG_HD int64_t y_count() const { return args.channels + args.rank; }

  ECG_HD Complex<T> A(int64_t h, int64_t n) const { return at(args.A, 0, h, n, args.A_tied); }
  // Row i of [B; P], row j of [C; Q].
  ECG_HD Complex<T> x(int64_t i, int64_t h, int64_t n) const {
    return i < args.rows ? at(args.B, i, h, n, args.B_tied)
                         : at(args.P, i - args.rows, h, n, args.P_tied);
  }
  ECG_HD Complex<T> y(int64_t j, int64_t h, int64_t n) const {
    return j < args.channels ? at(args.C, j, h, n, false)
                             : at(args.Q, j - args.channels, h, n, args.Q_tied);
  }
  ECG_HD NplrMode<T> mode(int64_t h, int64_t n) const { return nplr_mode(A(h, n), args.dt[h]); }
  ECG_HD NplrNode<T> node(int64_t f) const {
    const auto plane = [&](int which) { return args.nodes[which * args.node_stride + f]; };
    return {plane(0), plane(1), plane(2), {plane(3), plane(4)}};
  }

 private:
  ECG_HD Complex<T> at(const T* array, int64_t row, int64_t h, int64_t n, bool tied) const {
    const int64_t line = tied ? row : row * args.features + h;
    return load_complex(array, line * args.modes + n);
  }
};

// Some columns of the table of numerators, all rows; numerator v is (row v / columns, column
// begin + v % columns).
struct NplrTable {
  int64_t rows, begin, columns;

  ECG_HD int64_t count() const { return rows * columns; }
  ECG_HD int64_t row(int64_t v) const { return v / columns; }
  ECG_HD int64_t column(int64_t v) const { return begin + v % columns; }
};

// A mode with the real weights (q, p) of K numerators: in float, K = 6, four 16-byte reads a warp
// shares.
template <class T, int K>
struct alignas(16) NplrStaged {
  NplrMode<T> mode;
  Stored<T> weights[K];
};

// Stages modes [begin, begin + count) of feature h with numerators [first, first + K) of the table;
// those past its end weigh nothing.
template <int kThreads, int K, class Block, class T>
ECG_HD void nplr_stage(Block& block, NplrStaged<T, K>* to, const NplrView<T>& view,
                       const NplrTable& table, int64_t first, int64_t h, int64_t begin, int count) {
  block.phase([&](int thread) {
    for (int i = thread; i < count * K; i += kThreads) {
      const int64_t n = begin + i / K, v = first + i % K;
      const NplrMode<T> mode = view.mode(h, n);
      if (i % K == 0) to[i / K].mode = mode;
      Complex<T> weights{T(0), T(0)};
      if (v < table.count()) {
        weights = nplr_weights(view.x(table.row(v), h, n), view.y(table.column(v), h, n), mode);
      }
      to[i / K].weights[i % K] = weights;
    }
  });
}

// Σ_n q D and Σ_n p D of K numerators at one node.
template <class T, int K>
struct NplrPairSums {
  NplrNode<T> node;
  Complex<T> q[K], p[K];

  ECG_HD void start(NplrNode<T> at) {
    node = at;
    ECG_UNROLL
    for (int v = 0; v < K; ++v) q[v] = p[v] = {T(0), T(0)};
  }
  ECG_HD void add(const NplrStaged<T, K>* modes, int count) {
    for (int n = 0; n < count; ++n) {
      const Complex<T> D = nplr_pair(node, modes[n].mode);
      ECG_UNROLL
      for (int v = 0; v < K; ++v) {
        q[v] += modes[n].weights[v].re * D;
        p[v] += modes[n].weights[v].im * D;
      }
    }
  }
  ECG_HD Complex<T> sum(int v) const { return nplr_sum(node, q[v], p[v]); }
};

// Runs the pair sums of one node tile: what the two forward kernels share.
template <int kThreads, int kModes, int K, class Block, class T>
ECG_HD auto nplr_pair_sums(Block& block, const NplrView<T>& view, const NplrTable& table,
                           int64_t first, int64_t h, int64_t tile) {
  auto* staged = block.template shared<NplrStaged<T, K>>(kModes);
  auto mine = block.template registers<NplrPairSums<T, K>>();
  const NplrArgs<T>& args = view.args;
  block.phase([&](int thread) {
    // Threads past the end repeat the last node.
    const int64_t f = tile * kThreads + thread;
    mine[thread].start(view.node(f < args.node_count ? f : args.node_count - 1));
  });
  for (int64_t begin = 0; begin < args.modes; begin += kModes) {
    const int count = static_cast<int>(args.modes - begin < kModes ? args.modes - begin : kModes);
    nplr_stage<kThreads, K>(block, staged, view, table, first, h, begin, count);
    block.phase([&](int thread) { mine[thread].add(staged, count); });
  }
  return mine;
}

// One row of B, rank 1: pair sums and the Woodbury step in registers.
template <class T, int kChannels>
struct NplrForward {
  static constexpr int kThreads = 128;
  static constexpr int kModes = 32;
  static constexpr int K = 2 * (kChannels + 1);
  static constexpr int kBlocksPerSm = sizeof(T) == sizeof(float) ? 8 : 4;
  NplrView<T> view;

  ECG_HD int64_t tiles() const { return ceil_div(view.args.node_count, kThreads); }
  ECG_HD int64_t blocks() const { return view.args.features * tiles(); }
  size_t shared_bytes() const { return SharedSize().add<NplrStaged<T, K>>(kModes).bytes(); }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    const NplrArgs<T>& args = view.args;
    const int64_t h = block.index() / tiles(), tile = block.index() % tiles();
    const NplrTable table{2, 0, kChannels + 1};
    auto mine = nplr_pair_sums<kThreads, kModes, K>(block, view, table, 0, h, tile);
    block.phase([&](int thread) {
      const int64_t f = tile * kThreads + thread;
      if (f >= args.node_count) return;
      const auto& sums = mine[thread];
      const T dt = args.dt[h];
      const Complex<T> core = sums.sum(K - 1);
      Complex<T> inverse;
      nplr_invert<1>(dt * sums.node.c, &core, 1, 1, &inverse, static_cast<Complex<T>*>(nullptr));
      const Complex<T> U = (dt * sums.node.c) * (sums.sum(kChannels) * inverse);
      ECG_UNROLL
      for (int c = 0; c < kChannels; ++c) {
        const Complex<T> bracket = sums.sum(c) - U * sums.sum(kChannels + 1 + c);
        store_complex(args.spectrum, (c * args.features + h) * args.node_count + f,
                      dt * (sums.node.out * bracket));
      }
    });
  }
};

// Pair sums of any table, K numerators a block, to rho (count, H, F).
template <class T, int K>
struct NplrSums {
  static constexpr int kThreads = 128;
  static constexpr int kModes = 32;
  NplrView<T> view;
  NplrTable table;
  T* rho;

  ECG_HD int64_t tiles() const { return ceil_div(view.args.node_count, kThreads); }
  ECG_HD int64_t groups() const { return ceil_div(table.count(), K); }
  ECG_HD int64_t blocks() const { return view.args.features * groups() * tiles(); }
  size_t shared_bytes() const { return SharedSize().add<NplrStaged<T, K>>(kModes).bytes(); }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    const NplrArgs<T>& args = view.args;
    const int64_t tile = block.index() % tiles();
    const int64_t first = block.index() / tiles() % groups() * K;
    const int64_t h = block.index() / tiles() / groups();
    auto mine = nplr_pair_sums<kThreads, kModes, K>(block, view, table, first, h, tile);
    block.phase([&](int thread) {
      const int64_t f = tile * kThreads + thread;
      if (f >= args.node_count) return;
      ECG_UNROLL
      for (int v = 0; v < K; ++v) {
        if (first + v < table.count()) {
          store_complex(rho, ((first + v) * args.features + h) * args.node_count + f,
                        mine[thread].sum(v));
        }
      }
    });
  }
};

// The rank x rank part of one node: rows of U and columns of V. From rank 3 on the small matrices
// and vectors of a thread lie in scratch memory, up to there in registers.
template <class T, int kRank>
class NplrCore {
 public:
  // Complex numbers of scratch one thread needs.
  static ECG_HD int64_t scratch(int64_t rank) { return kRank > 0 ? 0 : count(rank); }

  template <class Rho>
  ECG_HD NplrCore(T k, const Rho& pq, int64_t rank, Complex<T>* memory)
      : k_(k), rank_(rank), memory_(memory) {
    for (int64_t i = 0; i < size(); ++i) {
      for (int64_t j = 0; j < size(); ++j) core()[i * size() + j] = pq(i, j);
    }
    nplr_invert<kRank>(k_, core(), size(), size(), inverse(), work());
  }

  ECG_HD int64_t size() const { return kRank > 0 ? kRank : rank_; }

  // k row (I + k rho_PQ)^-1 and k (I + k rho_PQ)^-1 column; each is valid until its next call.
  template <class Row>
  ECG_HD const Complex<T>* left(const Row& row) {
    return solve<false>(row, vectors() + size());
  }
  template <class Column>
  ECG_HD const Complex<T>* right(const Column& column) {
    return solve<true>(column, vectors() + 2 * size());
  }

 private:
  static constexpr ECG_HD int64_t count(int64_t rank) { return 4 * rank * rank + 3 * rank; }

  ECG_HD Complex<T>* inverse() { return kRank > 0 ? local_ : memory_; }
  ECG_HD Complex<T>* core() { return inverse() + size() * size(); }
  ECG_HD Complex<T>* work() { return core() + size() * size(); }
  // What is given, u and v.
  ECG_HD Complex<T>* vectors() { return work() + 2 * size() * size(); }

  template <bool kColumn, class Given>
  ECG_HD const Complex<T>* solve(const Given& given, Complex<T>* to) {
    for (int64_t r = 0; r < size(); ++r) vectors()[r] = given(r);
    nplr_solve<kRank, kColumn>(k_, core(), size(), inverse(), size(), vectors(), to, work());
    return to;
  }

  T k_;
  int64_t rank_;
  Complex<T>* memory_;
  Complex<T> local_[kRank > 0 ? count(kRank) : 1];
};

// The spectrum from a whole table rho ((S + R)(C + R), H, F), a thread one (feature, node).
template <class T, int kRank>
struct NplrWoodbury {
  static constexpr int kThreads = 128;
  NplrView<T> view;
  const T* rho;
  T* scratch;  // (H, F, NplrCore::scratch) complex

  ECG_HD int64_t tiles() const { return ceil_div(view.args.node_count, kThreads); }
  ECG_HD int64_t blocks() const { return view.args.features * tiles(); }
  size_t shared_bytes() const { return 0; }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    const NplrArgs<T>& args = view.args;
    const int64_t h = block.index() / tiles(), tile = block.index() % tiles();
    block.phase([&](int thread) {
      const int64_t f = tile * kThreads + thread;
      if (f >= args.node_count) return;
      const int64_t S = args.rows, C = args.channels, at = h * args.node_count + f;
      const auto sum = [&](int64_t i, int64_t j) {
        return load_complex(rho, (i * (C + args.rank) + j) * args.features * args.node_count + at);
      };
      const NplrNode<T> node = view.node(f);
      const T dt = args.dt[h];
      NplrCore<T, kRank> core(
          dt * node.c, [&](int64_t i, int64_t j) { return sum(S + i, C + j); }, args.rank,
          reinterpret_cast<Complex<T>*>(scratch) + at * NplrCore<T, kRank>::scratch(args.rank));
      for (int64_t s = 0; s < S; ++s) {
        const Complex<T>* U = core.left([&](int64_t r) { return sum(s, C + r); });
        for (int64_t c = 0; c < C; ++c) {
          Complex<T> bracket = sum(s, c);
          for (int64_t r = 0; r < core.size(); ++r) bracket -= U[r] * sum(S + r, c);
          store_complex(args.spectrum, (s * C + c) * args.features * args.node_count + at,
                        dt * (node.out * bracket));
        }
      }
    });
  }
};

// The nodes, in double and then rounded; padding repeats the last.
template <class T>
struct NplrNodes {
  static constexpr int kThreads = 128;
  NplrNodesArgs<T> args;

  ECG_HD int64_t blocks() const { return ceil_div(args.node_stride, kThreads); }
  size_t shared_bytes() const { return 0; }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    block.phase([&](int thread) {
      const int64_t at = block.index() * kThreads + thread;
      if (at >= args.node_stride) return;
      const int64_t f = at < args.node_count ? at : args.node_count - 1;
      NplrNode<T> node;
      if (args.omega == nullptr) {
        node = nplr_node<T>(f, args.length);
      } else {
        const Complex<T> omega = load_complex(args.omega, f);
        node = nplr_node<T>(Complex<double>{omega.re, omega.im});
      }
      const T planes[5] = {node.c, node.r, node.y, node.out.re, node.out.im};
      ECG_UNROLL
      for (int which = 0; which < 5; ++which) {
        args.nodes[which * args.node_stride + at] = planes[which];
      }
    });
  }
};

// out[row, i] = Σ_h in[row, h, i], in the order of h.
template <class T>
struct NplrSumFeatures {
  static constexpr int kThreads = 128;
  NplrSumArgs<T> args;
  int64_t rows;

  ECG_HD int64_t blocks() const { return ceil_div(rows * args.size, kThreads); }
  size_t shared_bytes() const { return 0; }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    block.phase([&](int thread) {
      const int64_t i = block.index() * kThreads + thread;
      if (i >= rows * args.size) return;
      const int64_t row = i / args.size;
      const T* in = args.in + row * args.features * args.size + i % args.size;
      T sum = 0;
      for (int64_t h = 0; h < args.features; ++h) sum += in[h * args.size];
      args.out[i] = sum;
    });
  }
};

// ---- programs of one call in their order; `start` is a launch or the emulator
// --------------------

template <class T>
bool nplr_fused(const NplrArgs<T>& args) {
  return args.rows == 1 && args.rank == 1 && (args.channels == 1 || args.channels == 2);
}

// Scratch of a forward call, in elements of T.
template <class T>
int64_t nplr_forward_scratch(const NplrArgs<T>& args) {
  if (nplr_fused(args)) return 0;
  const int64_t numerators = (args.rows + args.rank) * (args.channels + args.rank);
  const int64_t small = args.rank > 2 ? NplrCore<T, 0>::scratch(args.rank) : 0;
  return 2 * args.features * args.node_count * (numerators + small);
}

// One of three instances of a program by rank.
template <template <class, int> class Program, class T, class Start, class... Fields>
Error nplr_by_rank(int64_t rank, const Start& start, const Fields&... fields) {
  if (rank == 1) return start(Program<T, 1>{fields...});
  if (rank == 2) return start(Program<T, 2>{fields...});
  return start(Program<T, 0>{fields...});
}

template <class T, class Start>
Error nplr_forward_programs(const NplrArgs<T>& args, T* scratch, const Start& start) {
  const NplrView<T> view{args};
  if (nplr_fused(args)) {
    return args.channels == 1 ? start(NplrForward<T, 1>{view}) : start(NplrForward<T, 2>{view});
  }
  const NplrTable table{view.x_count(), 0, view.y_count()};
  if (const Error error = start(NplrSums<T, 6>{view, table, scratch})) return error;
  T* small = scratch + 2 * table.count() * args.features * args.node_count;
  return nplr_by_rank<NplrWoodbury, T>(args.rank, start, view, static_cast<const T*>(scratch),
                                       small);
}

// Queue on a stream; all pointers are device memory.
template <class T>
Error nplr_nodes(const NplrNodesArgs<T>& args, Stream stream);
template <class T>
Error nplr_forward(const NplrArgs<T>& args, T* scratch, Stream stream);
template <class T>
Error nplr_sum_features(const NplrSumArgs<T>& args, int64_t rows, Stream stream);

}  // namespace ecg::cuda

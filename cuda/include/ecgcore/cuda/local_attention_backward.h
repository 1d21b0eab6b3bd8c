// SPDX-License-Identifier: MIT
//
// The adjoint of the local attention as block programs. Each gradient has a program of its own that
// sums in registers, in one order, and forms the weights again: δ of every query; dq, a tile of
// queries over its columns; dk and dv, a tile of keys over the queries of three blocks; dbias, a
// tile of it over batch and blocks.
#pragma once

#include "ecgcore/cuda/local_attention.h"

namespace ecg::cuda {

// δ = g · y of every query.
template <class E>
struct LocalAttentionDelta {
  using T = RealOf<E>;
  static constexpr int kThreads = 128;
  LocalAttentionBackwardArgs<E> args;
  T* delta;  // (batch, heads, length)

  ECG_HD int64_t rows() const {
    return args.in.shape.batch * args.in.shape.heads * args.in.shape.length;
  }
  ECG_HD int64_t blocks() const { return ceil_div(rows(), kThreads); }
  size_t shared_bytes() const { return 0; }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    block.phase([&](int thread) {
      const int64_t at = block.index() * kThreads + thread;
      if (at >= rows()) return;
      const LocalAttentionShape& shape = args.in.shape;
      const int64_t i = at % shape.length, h = at / shape.length % shape.heads;
      const int64_t b = at / shape.length / shape.heads;
      const T* y = args.out.slice(b, h) + i * args.out.row;
      const T* g = args.grad.slice(b, h) + i * args.grad.row;
      T sum = T(0);
      for (int64_t j = 0; j < shape.width; ++j) sum += g[j] * y[j];
      delta[at] = sum;
    });
  }
};

// What makes weights and gradients of logits from the products q k and g v of one query.
template <class T>
struct AttentionBackwardRow {
  AttentionRow<T> row;
  T scale, top, inverse_sum, delta;
  bool there;

  // Of query i of block n; `inside` is any query that exists, read in place of one that does not.
  template <class E>
  ECG_HD AttentionBackwardRow(const LocalAttentionBackwardArgs<E>& args, const T* deltas, int64_t b,
                              int64_t h, int64_t n, int64_t i, int64_t inside, bool is_there)
      : row(args.in, b, h, n, is_there ? i : inside, args.computes_outside()),
        scale(args.in.scale),
        there(is_there) {
    const LocalAttentionShape& shape = args.in.shape;
    const int64_t at = (b * shape.heads + h) * shape.length + (is_there ? i : inside);
    top = args.stats[2 * at];
    inverse_sum = T(1) / args.stats[2 * at + 1];
    delta = deltas[at];
  }
  // product becomes the weight, dweight the gradient of the logit.
  ECG_HD void differentiate(int64_t column, T& product, T& dweight) const {
    const bool meets = there && row.met.has(column);
    product =
        meets ? attention_weight(row.logit(scale * product, column), top) * inverse_sum : T(0);
    dweight = attention_logit_gradient(product, dweight, delta);
  }
};

// What the three programs share: shared memory, and the two products of a tile.
template <class E>
struct LocalAttentionBackwardTile {
  using T = RealOf<E>;
  using Thread = AttentionThread<T>;
  static constexpr int kThreads = Thread::kThreads;
  static constexpr int kTile = kAttentionTile;
  LocalAttentionBackwardArgs<E> args;
  const T* delta;  // (batch, heads, length)

  size_t shared_bytes() const {
    return SharedSize()
        .template add<T>(kTile * kAttentionRow)
        .template add<T>(kTile * kAttentionRow)
        .bytes();
  }

  // weights(thread) and gradients(thread) of 64 queries from `first` on and 64 columns; row_of(r)
  // is the AttentionBackwardRow of query first + r.
  template <class Block, class RowOf, class Weights, class Gradients>
  ECG_HD void tile(Block& block, T* a, T* b, int64_t batch, int64_t head, int64_t first,
                   int64_t column, const RowOf& row_of, const Weights& weights,
                   const Gradients& gradients) const {
    const LocalAttentionShape& shape = args.in.shape;
    attention_products(block, a, b, AttentionPiece<E>(args.in.q, shape, batch, head), first,
                       AttentionPiece<E>(args.in.k, shape, batch, head), column, weights);
    attention_products(block, a, b, AttentionPiece<T>(args.grad, shape, batch, head), first,
                       AttentionPiece<E>(args.in.v, shape, batch, head), column, gradients);
    block.phase([&](int thread) {
      const Thread part{thread};
      ECG_UNROLL
      for (int r = 0; r < Thread::kRows; ++r) {
        const AttentionBackwardRow<T> row = row_of(part.row(r));
        ECG_UNROLL
        for (int c = 0; c < Thread::kColumns; ++c) {
          row.differentiate(column + part.column(c), weights(thread).at[r][c],
                            gradients(thread).at[r][c]);
        }
      }
    });
  }
};

template <class E>
struct LocalAttentionBackwardQueries : LocalAttentionBackwardTile<E> {
  using Base = LocalAttentionBackwardTile<E>;
  using Base::args, Base::delta, Base::kTile;
  using typename Base::T;
  using typename Base::Thread;

  ECG_HD int64_t blocks() const { return AttentionPlace::count(args.in.shape); }

  struct State {
    AttentionPart<T> weights, gradients, dq;
  };

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    const LocalAttentionShape& shape = args.in.shape;
    T* a = block.template shared<T>(kTile * kAttentionRow);
    T* b = block.template shared<T>(kTile * kAttentionRow);
    auto mine = block.template registers<State>();
    const AttentionPlace at(shape, AttentionPlace::tiles(shape), block.index());
    const int64_t first = at.n * shape.block + at.tile * kTile;
    const KeyRange queries = shape.queries(at.n).within({first, first + kTile});
    if (queries.count() == 0) return;
    // Columns outside the sequence have keys of zeros.
    const KeyRange columns = shape.columns(at.n, first, queries.end - 1, false);
    const AttentionPiece<E> k(args.in.k, shape, at.b, at.h);
    block.phase([&](int thread) { mine[thread].dq.clear(); });
    for (int64_t column = columns.begin; column < columns.end; column += kTile) {
      this->tile(
          block, a, b, at.b, at.h, first, column,
          [&](int r) {
            const int64_t i = first + r;
            return AttentionBackwardRow<T>(args, delta, at.b, at.h, at.n, i, first,
                                           i < queries.end);
          },
          [&](int thread) -> AttentionPart<T>& { return mine[thread].weights; },
          [&](int thread) -> AttentionPart<T>& { return mine[thread].gradients; });
      block.phase([&](int thread) {
        mine[thread].gradients.each(Thread{thread},
                                    [&](int r, int c, T& x) { a[c * kAttentionRow + r] = x; });
        k.template stage<true>(b, column, at.piece, thread);
      });
      block.phase(
          [&](int thread) { attention_multiply(a, b, kTile, Thread{thread}, mine[thread].dq); });
    }
    block.phase([&](int thread) {
      E* dq = args.dq.slice(at.b, at.h);
      mine[thread].dq.each(Thread{thread}, [&](int r, int c, T& x) {
        const int64_t i = first + r, j = at.piece * kTile + c;
        if (i < queries.end && j < shape.width) {
          store_element(dq, i * args.dq.row + j, args.in.scale * x);
        }
      });
    });
  }
};

// A tile of keys of block n meets the queries of blocks n - 1, n and n + 1 that see it.
template <class E>
struct LocalAttentionBackwardKeys : LocalAttentionBackwardTile<E> {
  using Base = LocalAttentionBackwardTile<E>;
  using Base::args, Base::delta, Base::kTile;
  using typename Base::T;
  using typename Base::Thread;

  ECG_HD int64_t blocks() const { return AttentionPlace::count(args.in.shape); }

  struct State {
    AttentionPart<T> weights, gradients, dk, dv;
  };

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    const LocalAttentionShape& shape = args.in.shape;
    T* a = block.template shared<T>(kTile * kAttentionRow);
    T* b = block.template shared<T>(kTile * kAttentionRow);
    auto mine = block.template registers<State>();
    const AttentionPlace at(shape, AttentionPlace::tiles(shape), block.index());
    const int64_t column = at.n * shape.block + at.tile * kTile;
    const KeyRange keys = shape.queries(at.n).within({column, column + kTile});
    if (keys.count() == 0) return;
    const KeyRange queries = shape.columns(at.n, column, keys.end - 1, false);
    const AttentionPiece<E> q(args.in.q, shape, at.b, at.h);
    const AttentionPiece<T> g(args.grad, shape, at.b, at.h);
    block.phase([&](int thread) {
      mine[thread].dk.clear();
      mine[thread].dv.clear();
    });
    for (int64_t first = queries.begin; first < queries.end; first += kTile) {
      this->tile(
          block, a, b, at.b, at.h, first, column,
          [&](int r) {
            const int64_t i = first + r;
            const bool there = i < queries.end;
            return AttentionBackwardRow<T>(args, delta, at.b, at.h,
                                           (there ? i : first) / shape.block, i, first, there);
          },
          [&](int thread) -> AttentionPart<T>& { return mine[thread].weights; },
          [&](int thread) -> AttentionPart<T>& { return mine[thread].gradients; });
      // a by rows: the contraction is over queries.
      const auto add = [&](const auto& rows, auto from, auto to) {
        block.phase([&](int thread) {
          from(thread).each(Thread{thread},
                            [&](int r, int c, T& x) { a[r * kAttentionRow + c] = x; });
          rows.template stage<true>(b, first, at.piece, thread);
        });
        block.phase(
            [&](int thread) { attention_multiply(a, b, kTile, Thread{thread}, to(thread)); });
      };
      add(
          g, [&](int thread) -> AttentionPart<T>& { return mine[thread].weights; },
          [&](int thread) -> AttentionPart<T>& { return mine[thread].dv; });
      add(
          q, [&](int thread) -> AttentionPart<T>& { return mine[thread].gradients; },
          [&](int thread) -> AttentionPart<T>& { return mine[thread].dk; });
    }
    block.phase([&](int thread) {
      const auto store = [&](const AttentionTensor<E>& to, AttentionPart<T>& part, T factor) {
        if (to.data == nullptr) return;
        part.each(Thread{thread}, [&](int r, int c, T& x) {
          const int64_t i = column + r, j = at.piece * kTile + c;
          if (i < keys.end && j < shape.width) {
            store_element(to.slice(at.b, at.h), i * to.row + j, factor * x);
          }
        });
      };
      store(args.dk, mine[thread].dk, args.in.scale);
      store(args.dv, mine[thread].dv, T(1));
    });
  }
};

template <class E>
struct LocalAttentionBackwardBias : LocalAttentionBackwardTile<E> {
  using Base = LocalAttentionBackwardTile<E>;
  using Base::args, Base::delta, Base::kTile;
  using typename Base::T;
  using typename Base::Thread;

  ECG_HD int64_t tiles_down() const { return ceil_div(args.in.shape.block, kTile); }
  ECG_HD int64_t tiles_across() const { return ceil_div(3 * args.in.shape.block, kTile); }
  ECG_HD int64_t blocks() const { return args.in.shape.heads * tiles_down() * tiles_across(); }

  struct State {
    AttentionPart<T> weights, gradients, sum;
  };

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    const LocalAttentionShape& shape = args.in.shape;
    T* a = block.template shared<T>(kTile * kAttentionRow);
    T* b = block.template shared<T>(kTile * kAttentionRow);
    auto mine = block.template registers<State>();
    const int64_t across = block.index() % tiles_across() * kTile;
    const int64_t down = block.index() / tiles_across() % tiles_down() * kTile;
    const int64_t h = block.index() / tiles_across() / tiles_down();
    block.phase([&](int thread) { mine[thread].sum.clear(); });
    for (int64_t at = 0; at < shape.batch * shape.blocks(); ++at) {
      const int64_t batch = at / shape.blocks(), n = at % shape.blocks();
      const int64_t first = n * shape.block + down;
      const KeyRange queries = shape.queries(n).within({first, first + kTile});
      if (queries.count() == 0) continue;
      this->tile(
          block, a, b, batch, h, first, (n - 1) * shape.block + across,
          [&](int r) {
            const int64_t i = first + r;
            return AttentionBackwardRow<T>(args, delta, batch, h, n, i, first, i < queries.end);
          },
          [&](int thread) -> AttentionPart<T>& { return mine[thread].weights; },
          [&](int thread) -> AttentionPart<T>& { return mine[thread].gradients; });
      block.phase([&](int thread) {
        ECG_UNROLL
        for (int r = 0; r < Thread::kRows; ++r) {
          ECG_UNROLL
          for (int c = 0; c < Thread::kColumns; ++c) {
            mine[thread].sum.at[r][c] += mine[thread].gradients.at[r][c];
          }
        }
      });
    }
    block.phase([&](int thread) {
      mine[thread].sum.each(Thread{thread}, [&](int r, int c, T& x) {
        const int64_t t = down + r, place = across + c;
        if (t < shape.block && place < 3 * shape.block) {
          args.dbias[(h * shape.block + t) * 3 * shape.block + place] = x;
        }
      });
    });
  }
};

// Scratch of a call, in elements of T.
template <class E>
int64_t local_attention_backward_scratch(const LocalAttentionBackwardArgs<E>& args) {
  return args.in.shape.batch * args.in.shape.heads * args.in.shape.length;
}

template <class E, class Start>
Error local_attention_backward_programs(const LocalAttentionBackwardArgs<E>& args,
                                        RealOf<E>* scratch, const Start& start) {
  if (const Error error = start(LocalAttentionDelta<E>{args, scratch})) return error;
  if (args.dq.data != nullptr) {
    if (const Error error = start(LocalAttentionBackwardQueries<E>{{args, scratch}})) return error;
  }
  if (args.dk.data != nullptr || args.dv.data != nullptr) {
    if (const Error error = start(LocalAttentionBackwardKeys<E>{{args, scratch}})) return error;
  }
  if (args.dbias == nullptr) return nullptr;
  return start(LocalAttentionBackwardBias<E>{{args, scratch}});
}

// Queues on a stream; all pointers are device memory.
template <class E>
Error local_attention_backward(const LocalAttentionBackwardArgs<E>& args, RealOf<E>* scratch,
                               Stream stream);

}  // namespace ecg::cuda

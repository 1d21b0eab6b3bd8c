// SPDX-License-Identifier: MIT
//
// The adjoint of the local attention on the CPU. Weights come again from logits and the saved
// statistics; per tile there are five products: logits, g v^T, and the sums to dv, dk and dq. Keys
// collect their gradients from the queries of three blocks. A range of tasks owns its blocks, both
// as queries and as keys: at its ends it meets the queries of one more block for the sake of its
// keys. So a gradient is summed in the same order wherever ranges end.
#pragma once

#include "local_attention_tiles.h"

namespace ecg::cpu::ECG_ISA {
namespace {

template <class T>
struct BackwardBuffers {
  T *zeros, *keys, *values, *key_rows, *dk, *dv;                     // a slice
  T *q, *grad, *dq, *weights, *dlogits, *top, *inverse_sum, *delta;  // a tile
  int64_t size;

  BackwardBuffers(int64_t columns, int64_t width, double* workspace) {
    const int64_t padded = round_up(width, kLanes<T>);
    Scratch scratch(workspace);
    zeros = scratch.take<T>(padded);
    keys = scratch.take<T>(columns * width);
    values = scratch.take<T>(columns * width);
    key_rows = scratch.take<T>(columns * padded);
    dk = scratch.take<T>(columns * padded);
    dv = scratch.take<T>(columns * padded);
    q = scratch.take<T>(kTileRows * padded);
    grad = scratch.take<T>(kTileRows * padded);
    dq = scratch.take<T>(kTileRows * padded);
    weights = scratch.take<T>(kTileRows * kTileColumns);
    dlogits = scratch.take<T>(kTileRows * kTileColumns);
    top = scratch.take<T>(kTileRows);
    inverse_sum = scratch.take<T>(kTileRows);
    delta = scratch.take<T>(kTileRows);
    size = scratch.used();
  }
};

template <class E>
int64_t backward_workspace(const LocalAttentionBackwardArgs<E>& args) {
  using T = RealOf<E>;
  const ColumnSpace space(args.in.shape, args.computes_outside(), kLanes<T>);
  return BackwardBuffers<T>(space.size, args.in.shape.width, nullptr).size;
}

// The slices of a range of tasks, one after the other.
template <class E>
class Backward {
  using T = RealOf<E>;
  using R = Lanes<T>;
  static constexpr int W = kLanes<T>;

 public:
  Backward(const LocalAttentionBackwardArgs<E>& args, double* workspace)
      : args_(args),
        in_(args.in),
        shape_(args.in.shape),
        outside_(args.computes_outside()),
        width_(shape_.width),
        padded_(round_up(width_, W)),
        space_(shape_, outside_, W),
        to_(space_.size, width_, workspace) {
    for (int64_t j = 0; j < padded_; ++j) to_.zeros[j] = T(0);
  }

  // Slice (b, h), of which the blocks [begin, end) are owned.
  void run(int64_t b, int64_t h, int64_t begin, int64_t end) {
    const bool keys = args_.dk.data != nullptr || args_.dv.data != nullptr;
    const KeyRange owned{begin * shape_.block, end * shape_.block};
    const Sequence<E> k = sequence(in_.k, b, h), v = sequence(in_.v, b, h);
    Packed packed(space_, shape_.columns(begin).within(space_.columns()).begin, W);
    for (int64_t n = begin > 0 ? begin - 1 : 0; n <= end && n < shape_.blocks(); ++n) {
      const bool owns_queries = begin <= n && n < end;
      if (!owns_queries && !keys) continue;
      const KeyRange queries = shape_.queries(n);
      KeyRange block = shape_.columns(n, queries.begin, queries.end - 1, outside_);
      if (!owns_queries) block = block.within(owned);
      if (block.count() == 0) continue;
      packed.ensure(block.end, [&](int64_t place, int64_t columns) {
        const int64_t first = place + space_.origin;
        pack_columns<R>(k, first, columns, width_, to_.keys + place * width_);
        pack_columns<R>(v, first, columns, width_, to_.values + place * width_);
        pack_rows<R>(k, first, columns, width_, padded_, T(1), to_.key_rows + place * padded_);
        for (int64_t i = place * padded_; i < (place + columns) * padded_; ++i) {
          to_.dk[i] = to_.dv[i] = T(0);
        }
      });
      for (int64_t first = queries.begin; first < queries.end; first += kTileRows) {
        const KeyRange tile = queries.within({first, first + kTileRows});
        const KeyRange columns = shape_.columns(n, first, tile.end - 1, outside_).within(block);
        if (columns.count() == 0) continue;
        load(b, h, tile);
        take_tile({b, h, n}, tile, columns, owned, owns_queries);
      }
    }
    if (keys) store_keys(b, h, owned.within(shape_.sequence()));
  }

 private:
  template <class S>
  Sequence<S> sequence(const AttentionTensor<const S>& x, int64_t b, int64_t h) const {
    return {x.slice(b, h), x.row, shape_.length, reinterpret_cast<const S*>(to_.zeros)};
  }

  // Queries, their gradients and statistics.
  void load(int64_t b, int64_t h, KeyRange tile) {
    const int64_t rows = tile.count();
    pack_rows<R>(sequence(in_.q, b, h), tile.begin, rows, width_, padded_, in_.scale, to_.q);
    pack_rows<R>(sequence(args_.grad, b, h), tile.begin, rows, width_, padded_, T(1), to_.grad);
    const Sequence<T> out = sequence(args_.out, b, h);
    const T* stats = args_.stats + ((b * shape_.heads + h) * shape_.length + tile.begin) * 2;
    for (int64_t i = 0; i < rows; ++i) {
      to_.top[i] = stats[2 * i];
      to_.inverse_sum[i] = T(1) / stats[2 * i + 1];
      const T* y = out.at(tile.begin + i);
      const T* g = to_.grad + i * padded_;
      R sum(0);
      int64_t j = 0;
      for (; j + W <= width_; j += W) sum += R::load(g + j) * R::load(y + j);
      T delta = sum_lanes(sum);
      for (; j < width_; ++j) delta += g[j] * y[j];
      to_.delta[i] = delta;
    }
    for (int64_t i = 0; i < rows * padded_; ++i) to_.dq[i] = T(0);
  }

  void take_tile(AttentionTask at, KeyRange tile, KeyRange columns, KeyRange owned,
                 bool owns_queries) {
    const int64_t rows = tile.count(), end = space_.place(columns.end);
    const bool dlogits = args_.dq.data != nullptr || args_.dk.data != nullptr || args_.dbias;
    for (int64_t place = round_down(space_.place(columns.begin), W); place < end;
         place += kTileColumns) {
      const int64_t left = round_up(end - place, W);
      const int64_t count = left < kTileColumns ? left : kTileColumns;
      product<false>(Left<T>{to_.q, padded_, 1}, Right<T>{to_.keys + place * width_, W, width_ * W},
                     rows, count / W, width_, Rows<T>{to_.weights, kTileColumns});
      if (dlogits) {
        product<false>(Left<T>{to_.grad, padded_, 1},
                       Right<T>{to_.values + place * width_, W, width_ * W}, rows, count / W,
                       width_, Rows<T>{to_.dlogits, kTileColumns});
      }
      for (int64_t i = 0; i < rows; ++i) {
        differentiate(at, tile.begin + i, i, place + space_.origin, count, dlogits);
      }
      const KeyRange part{place + space_.origin, place + space_.origin + count};
      const KeyRange inside = part.within(columns);
      if (args_.dbias != nullptr) add_bias(at, tile, inside, place);
      if (args_.dq.data != nullptr && owns_queries) {
        const int64_t first = space_.place(inside.begin);
        product<true>(Left<T>{to_.dlogits + first - place, kTileColumns, 1},
                      Right<T>{to_.key_rows + first * padded_, padded_}, rows, padded_ / W,
                      inside.count(), Rows<T>{to_.dq, padded_});
      }
      const KeyRange mine = inside.within(owned);
      if (mine.count() == 0) continue;
      const int64_t first = space_.place(mine.begin);
      if (args_.dv.data != nullptr) {
        product<true>(Left<T>{to_.weights + first - place, 1, kTileColumns},
                      Right<T>{to_.grad, padded_}, mine.count(), padded_ / W, rows,
                      Rows<T>{to_.dv + first * padded_, padded_});
      }
      if (args_.dk.data != nullptr) {
        product<true>(Left<T>{to_.dlogits + first - place, 1, kTileColumns},
                      Right<T>{to_.q, padded_}, mine.count(), padded_ / W, rows,
                      Rows<T>{to_.dk + first * padded_, padded_});
      }
    }
    if (args_.dq.data == nullptr || !owns_queries) return;
    E* dq = args_.dq.slice(at.b, at.h) + tile.begin * args_.dq.row;
    for (int64_t i = 0; i < rows; ++i) {
      store_row<R>(to_.dq + i * padded_, width_, in_.scale, dq + i * args_.dq.row);
    }
  }

  // A row of products q k and g v becomes weights and gradients of logits.
  void differentiate(AttentionTask at, int64_t query, int64_t i, int64_t first, int64_t count,
                     bool dlogits_wanted) {
    const AttentionRow<T> row(in_, at.b, at.h, at.n, query, outside_);
    const bool plain = are_logits(row, first, count);
    T* weights = to_.weights + i * kTileColumns;
    T* gradients = to_.dlogits + i * kTileColumns;
    const R top(to_.top[i]), inverse_sum(to_.inverse_sum[i]), delta(to_.delta[i]);
    for (int64_t j = 0; j < count; j += W) {
      R x = R::load(weights + j);
      if (!plain) x = logits(row, x, first + j);
      const R weight = attention_weight(x, top) * inverse_sum;
      weight.store(weights + j);
      if (dlogits_wanted) {
        attention_logit_gradient(weight, R::load(gradients + j), delta).store(gradients + j);
      }
    }
  }

  void add_bias(AttentionTask at, KeyRange tile, KeyRange inside, int64_t place) {
    for (int64_t i = 0; i < tile.count(); ++i) {
      const int64_t t = tile.begin + i - at.n * shape_.block;
      T* row = args_.dbias + (at.h * shape_.block + t) * 3 * shape_.block +
               (inside.begin - (at.n - 1) * shape_.block);
      const T* from = to_.dlogits + i * kTileColumns + space_.place(inside.begin) - place;
      for (int64_t j = 0; j < inside.count(); ++j) row[j] += from[j];
    }
  }

  void store_keys(int64_t b, int64_t h, KeyRange keys) {
    for (int64_t j = keys.begin; j < keys.end; ++j) {
      const int64_t place = space_.place(j) * padded_;
      if (args_.dk.data != nullptr) {
        store_row<R>(to_.dk + place, width_, T(1), args_.dk.slice(b, h) + j * args_.dk.row);
      }
      if (args_.dv.data != nullptr) {
        store_row<R>(to_.dv + place, width_, T(1), args_.dv.slice(b, h) + j * args_.dv.row);
      }
    }
  }

  const LocalAttentionBackwardArgs<E>& args_;
  const LocalAttentionInputs<E>& in_;
  const LocalAttentionShape& shape_;
  const bool outside_;
  const int64_t width_, padded_;
  const ColumnSpace space_;
  const BackwardBuffers<T> to_;
};

}  // namespace
}  // namespace ecg::cpu::ECG_ISA

// SPDX-License-Identifier: MIT
//
// Three-block local attention as block programs, and their launchers.
//
// Everything is made of 64 x 64 tiles. A product stages 64 x 64 of each side in shared memory, the
// contracted axis slow, and a thread owns 4 rows and 8 (double: 4) columns of the result: three
// 16-byte reads for 32 multiply-adds. Logits of wider heads are summed over pieces of 64; a wider
// result is taken 64 columns a block, which form the logits again.
//
// Forward: a block has 64 queries, walks over its columns 64 at a time, and keeps the result and
// the statistics of the softmax in registers. Backward: local_attention_backward.h. docs/cuda.md
// has the counts.
#pragma once

#include "ecgcore/cuda/element.h"
#include "ecgcore/cuda/stream.h"
#include "ecgcore/kernels/local_attention.h"
#include "ecgcore/math/block.h"

namespace ecg::cuda {

inline constexpr int kAttentionTile = 64;
// Rows of a tile in shared memory: four more, so that staging with rows and columns exchanged
// spreads over the banks.
inline constexpr int kAttentionRow = kAttentionTile + 4;

// A thread's part of a tile: rows row() .. + 3, and kColumns columns, four neighbours at a time.
template <class T>
struct AttentionThread {
  static constexpr int kRows = 4;
  static constexpr int kColumns = sizeof(T) == sizeof(float) ? 8 : 4;
  static constexpr int kAcross = kAttentionTile / kColumns;
  static constexpr int kThreads = kAttentionTile / kRows * kAcross;

  int thread;

  ECG_HD int row(int i) const { return thread / kAcross * kRows + i; }
  ECG_HD int column(int j) const {
    return thread % kAcross * 4 + j % 4 + j / 4 * (kAttentionTile / (kColumns / 4));
  }
};

template <class T>
struct AttentionPart {
  using Thread = AttentionThread<T>;
  T at[Thread::kRows][Thread::kColumns];

  ECG_HD void clear() {
    ECG_UNROLL
    for (int i = 0; i < Thread::kRows; ++i) {
      ECG_UNROLL
      for (int j = 0; j < Thread::kColumns; ++j) at[i][j] = T(0);
    }
  }
  // visit(row, column, value) for every entry.
  template <class Visit>
  ECG_HD void each(Thread thread, const Visit& visit) {
    ECG_UNROLL
    for (int i = 0; i < Thread::kRows; ++i) {
      ECG_UNROLL
      for (int j = 0; j < Thread::kColumns; ++j) visit(thread.row(i), thread.column(j), at[i][j]);
    }
  }
};

template <class T>
struct alignas(16) AttentionQuad {
  T at[4];
};
template <class T>
ECG_HD AttentionQuad<T> attention_quad(const T* tile, int k, int column) {
  return *reinterpret_cast<const AttentionQuad<T>*>(tile + k * kAttentionRow + column);
}

// part[x, y] += Σ_k a[k, x] b[k, y], k < depth.
template <class T>
ECG_HD void attention_multiply(const T* a, const T* b, int depth, AttentionThread<T> thread,
                               AttentionPart<T>& part) {
  constexpr int kColumns = AttentionThread<T>::kColumns;
  ECG_UNROLL_4
  for (int k = 0; k < depth; ++k) {
    const AttentionQuad<T> left = attention_quad(a, k, thread.row(0));
    ECG_UNROLL
    for (int j = 0; j < kColumns; j += 4) {
      const AttentionQuad<T> right = attention_quad(b, k, thread.column(j));
      ECG_UNROLL
      for (int i = 0; i < 4; ++i) {
        ECG_UNROLL
        for (int l = 0; l < 4; ++l) part.at[i][j + l] += left.at[i] * right.at[l];
      }
    }
  }
}

// 64 rows of a slice and a piece of 64 of their entries, zeros outside.
template <class E>
struct AttentionPiece {
  const E* slice;
  int64_t row, length, width;

  ECG_HD AttentionPiece(const AttentionTensor<const E>& x, const LocalAttentionShape& shape,
                        int64_t b, int64_t h)
      : slice(x.slice(b, h)), row(x.row), length(shape.length), width(shape.width) {}

  // Row by row where kRowsSlow, else with rows as the fast axis. To be called by every thread of a
  // phase.
  template <bool kRowsSlow, class T>
  ECG_HD void stage(T* to, int64_t first, int64_t piece, int thread) const {
    ECG_UNROLL_4
    for (int at = thread; at < kAttentionTile * kAttentionTile;
         at += AttentionThread<T>::kThreads) {
      const int r = at / kAttentionTile, c = at % kAttentionTile;
      const int64_t i = first + r, j = piece * kAttentionTile + c;
      const bool there = 0 <= i && i < length && j < width;
      const T x = there ? load_element(slice, i * row + j) : T(0);
      to[kRowsSlow ? r * kAttentionRow + c : c * kAttentionRow + r] = x;
    }
  }
};

// Where a block works: 64 of the `count` places of a group, group = (h * batch + b) * blocks + n,
// and a piece of the width.
struct AttentionPlace {
  int64_t b, h, n, tile, piece;

  ECG_HD AttentionPlace(const LocalAttentionShape& shape, int64_t tiles, int64_t index) {
    piece = index % pieces(shape);
    index /= pieces(shape);
    tile = index % tiles;
    index /= tiles;
    n = index % shape.blocks();
    index /= shape.blocks();
    b = index % shape.batch;
    h = index / shape.batch;
  }
  static ECG_HD int64_t pieces(const LocalAttentionShape& shape) {
    return ceil_div(shape.width, kAttentionTile);
  }
  // Tiles of the longest block.
  static ECG_HD int64_t tiles(const LocalAttentionShape& shape) {
    return ceil_div(shape.block < shape.length ? shape.block : shape.length, kAttentionTile);
  }
  static ECG_HD int64_t count(const LocalAttentionShape& shape) {
    return shape.heads * shape.batch * shape.blocks() * tiles(shape) * pieces(shape);
  }
};

// part_of(thread) = Σ over all pieces of x_i · y_j, for 64 rows x from `rows` and 64 rows y from
// `columns` on. Both arrays of shared memory are free again afterwards.
template <class Block, class T, class X, class Y, class PartOf>
ECG_HD void attention_products(Block& block, T* a, T* b, const AttentionPiece<X>& x, int64_t rows,
                               const AttentionPiece<Y>& y, int64_t columns, const PartOf& part_of) {
  for (int64_t piece = 0; piece * kAttentionTile < x.width; ++piece) {
    block.phase([&](int thread) {
      x.template stage<false>(a, rows, piece, thread);
      y.template stage<false>(b, columns, piece, thread);
    });
    block.phase([&](int thread) {
      AttentionPart<T>& part = part_of(thread);
      if (piece == 0) part.clear();
      const int64_t left = x.width - piece * kAttentionTile;
      const int depth = left < kAttentionTile ? static_cast<int>(left) : kAttentionTile;
      attention_multiply(a, b, depth, AttentionThread<T>{thread}, part);
    });
  }
}

template <class E>
struct LocalAttentionForward {
  using T = RealOf<E>;
  using Thread = AttentionThread<T>;
  static constexpr int kThreads = Thread::kThreads;
  static constexpr int kTile = kAttentionTile;
  // So many threads share a row of the softmax.
  static constexpr int kSharers = kThreads / kTile;
  LocalAttentionArgs<E> args;

  ECG_HD int64_t blocks() const { return AttentionPlace::count(args.in.shape); }
  size_t shared_bytes() const {
    return SharedSize()
        .template add<T>(kTile * kAttentionRow)
        .template add<T>(kTile * kAttentionRow)
        .template add<T>(kThreads)
        .template add<T>(kTile)
        .bytes();
  }

  struct State {
    AttentionPart<T> products, out;
    T top, sum;  // of row thread % kTile; the sum over this thread's share of columns
  };

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    const LocalAttentionInputs<E>& in = args.in;
    const LocalAttentionShape& shape = in.shape;
    T* a = block.template shared<T>(kTile * kAttentionRow);  // then: weights, by columns
    T* b = block.template shared<T>(kTile * kAttentionRow);
    T* shares = block.template shared<T>(kThreads);
    T* factors = block.template shared<T>(kTile);
    auto mine = block.template registers<State>();
    const AttentionPlace at(shape, AttentionPlace::tiles(shape), block.index());
    const int64_t first = at.n * shape.block + at.tile * kTile;
    const KeyRange queries = shape.queries(at.n).within({first, first + kTile});
    if (queries.count() == 0) return;
    const bool outside = args.computes_outside();
    const KeyRange columns = shape.columns(at.n, first, queries.end - 1, outside);
    const AttentionPiece<E> q(in.q, shape, at.b, at.h), k(in.k, shape, at.b, at.h);
    const AttentionPiece<E> v(in.v, shape, at.b, at.h);
    block.phase([&](int thread) {
      const int64_t i = first + thread % kTile;
      const int64_t counted = outside || i >= queries.end ? 0 : shape.outside(at.n, i);
      mine[thread].out.clear();
      mine[thread].top = counted > 0 ? T(0) : lowest();
      mine[thread].sum = thread < kTile ? static_cast<T>(counted) : T(0);
    });
    for (int64_t column = columns.begin; column < columns.end; column += kTile) {
      attention_products(block, a, b, q, first, k, column,
                         [&](int thread) -> AttentionPart<T>& { return mine[thread].products; });
      block.phase([&](int thread) {
        const Thread part{thread};
        ECG_UNROLL
        for (int r = 0; r < Thread::kRows; ++r) {
          const int64_t i = first + part.row(r);
          const bool there = i < queries.end;
          const AttentionRow<T> row(in, at.b, at.h, at.n, there ? i : first, outside);
          ECG_UNROLL
          for (int c = 0; c < Thread::kColumns; ++c) {
            const int64_t j = column + part.column(c);
            a[part.column(c) * kAttentionRow + part.row(r)] =
                there && row.met.has(j) ? row.logit(in.scale * mine[thread].products.at[r][c], j)
                                        : lowest();
          }
        }
      });
      block.phase([&](int thread) {
        T largest = lowest();
        ECG_UNROLL_4
        for (int c = thread / kTile; c < kTile; c += kSharers) {
          const T x = a[c * kAttentionRow + thread % kTile];
          largest = select(largest < x, x, largest);
        }
        shares[thread] = largest;
        v.template stage<true>(b, column, at.piece, thread);
      });
      block.phase([&](int thread) {
        const int row = thread % kTile;
        const T before = mine[thread].top;
        T top = before;
        for (int share = 0; share < kSharers; ++share) {
          const T found = shares[share * kTile + row];
          top = select(top < found, found, top);
        }
        // No column so far: the maximum is -inf and cannot be subtracted.
        const T subtracted = select(top == lowest(), T(0), top);
        const T factor = attention_weight(before, subtracted);
        T sum = T(0);
        ECG_UNROLL_4
        for (int c = thread / kTile; c < kTile; c += kSharers) {
          T& x = a[c * kAttentionRow + row];
          x = attention_weight(x, subtracted);
          sum += x;
        }
        mine[thread].top = top;
        mine[thread].sum = factor * mine[thread].sum + sum;
        if (thread < kTile) factors[row] = factor;
      });
      block.phase([&](int thread) {
        const Thread part{thread};
        mine[thread].out.each(part, [&](int r, int, T& x) { x *= factors[r]; });
        attention_multiply(a, b, kTile, part, mine[thread].out);
      });
    }
    block.phase([&](int thread) { shares[thread] = mine[thread].sum; });
    block.phase([&](int thread) {
      if (thread < kTile) {
        T sum = shares[thread];
        for (int share = 1; share < kSharers; ++share) sum += shares[share * kTile + thread];
        factors[thread] = sum;
        if (at.piece == 0 && first + thread < queries.end) {
          T* stats = args.stats + ((at.b * shape.heads + at.h) * shape.length + first + thread) * 2;
          stats[0] = mine[thread].top;
          stats[1] = sum;
        }
      }
    });
    block.phase([&](int thread) {
      T* out = args.out.slice(at.b, at.h);
      mine[thread].out.each(Thread{thread}, [&](int r, int c, T& x) {
        const int64_t i = first + r, j = at.piece * kTile + c;
        if (i < queries.end && j < shape.width) out[i * args.out.row + j] = x / factors[r];
      });
    });
  }

 private:
  static ECG_HD T lowest() { return -static_cast<T>(__builtin_inff()); }
};

template <class E, class Start>
Error local_attention_forward_programs(const LocalAttentionArgs<E>& args, const Start& start) {
  return start(LocalAttentionForward<E>{args});
}

// Queues on a stream; all pointers are device memory.
template <class E>
Error local_attention_forward(const LocalAttentionArgs<E>& args, Stream stream);

}  // namespace ecg::cuda

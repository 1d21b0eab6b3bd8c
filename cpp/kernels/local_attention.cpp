// SPDX-License-Identifier: MIT
//
// Three-block local attention on the CPU. A thread packs keys and values of its slice once, block
// by block as it goes along, and takes a block of queries in tiles of 64 rows and 128 columns:
// logits as a product on register tiles, their softmax in pieces, and the weighted sum of values.
// Keys are packed by columns, lanes = keys, so that every product is broadcast times dense lanes.
#include "ecgcore/kernels/local_attention.h"

#include "local_attention_backward.h"

namespace ecg::cpu::ECG_ISA {
namespace {

template <class T>
struct ForwardBuffers {
  T *zeros, *keys, *values, *q, *weights, *out, *top, *sum;
  int64_t size;

  ForwardBuffers(int64_t columns, int64_t width, double* workspace) {
    const int64_t padded = round_up(width, kLanes<T>);
    Scratch scratch(workspace);
    zeros = scratch.take<T>(padded);
    keys = scratch.take<T>(columns * width);
    values = scratch.take<T>(columns * padded);
    q = scratch.take<T>(kTileRows * padded);
    weights = scratch.take<T>(kTileRows * kTileColumns);
    out = scratch.take<T>(kTileRows * padded);
    top = scratch.take<T>(kTileRows);
    sum = scratch.take<T>(kTileRows);
    size = scratch.used();
  }
};

template <class E>
int64_t forward_workspace(const LocalAttentionArgs<E>& args) {
  using T = RealOf<E>;
  const ColumnSpace space(args.in.shape, args.computes_outside(), kLanes<T>);
  return ForwardBuffers<T>(space.size, args.in.shape.width, nullptr).size;
}

// The slices of a range of tasks, one after the other.
template <class E>
class Forward {
  using T = RealOf<E>;
  using R = Lanes<T>;
  static constexpr int W = kLanes<T>;

 public:
  Forward(const LocalAttentionArgs<E>& args, double* workspace)
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

  // Blocks [begin, end) of slice (b, h).
  void run(int64_t b, int64_t h, int64_t begin, int64_t end) {
    const Sequence<E> q = sequence(in_.q, b, h);
    const Sequence<E> k = sequence(in_.k, b, h), v = sequence(in_.v, b, h);
    Packed packed(space_, shape_.columns(begin).within(space_.columns()).begin, W);
    for (int64_t n = begin; n < end; ++n) {
      const KeyRange queries = shape_.queries(n);
      packed.ensure(
          shape_.columns(n).within(space_.columns()).end, [&](int64_t place, int64_t count) {
            const int64_t first = place + space_.origin;
            pack_columns<R>(k, first, count, width_, to_.keys + place * width_);
            pack_rows<R>(v, first, count, width_, padded_, T(1), to_.values + place * padded_);
          });
      for (int64_t first = queries.begin; first < queries.end; first += kTileRows) {
        const KeyRange tile = queries.within({first, first + kTileRows});
        pack_rows<R>(q, first, tile.count(), width_, padded_, in_.scale, to_.q);
        attend({b, h, n}, tile);
        store(b, h, tile);
      }
    }
  }

 private:
  Sequence<E> sequence(const AttentionTensor<const E>& x, int64_t b, int64_t h) const {
    return {x.slice(b, h), x.row, shape_.length, reinterpret_cast<const E*>(to_.zeros)};
  }

  void attend(AttentionTask at, KeyRange tile) {
    const int64_t rows = tile.count();
    for (int64_t i = 0; i < rows * padded_; ++i) to_.out[i] = T(0);
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t counted = outside_ ? 0 : shape_.outside(at.n, tile.begin + i);
      to_.top[i] = counted > 0 ? T(0) : -__builtin_inff();
      to_.sum[i] = static_cast<T>(counted);
    }
    const KeyRange columns = shape_.columns(at.n, tile.begin, tile.end - 1, outside_);
    const int64_t end = space_.place(columns.end);
    for (int64_t place = round_down(space_.place(columns.begin), W); place < end;
         place += kTileColumns) {
      const int64_t left = round_up(end - place, W);
      const int64_t count = left < kTileColumns ? left : kTileColumns;
      product<false>(Left<T>{to_.q, padded_, 1}, Right<T>{to_.keys + place * width_, W, width_ * W},
                     rows, count / W, width_, Rows<T>{to_.weights, kTileColumns});
      const KeyRange all{place + space_.origin, place + space_.origin + count};
      for (int64_t i = 0; i < rows; ++i) {
        soften(AttentionRow<T>(in_, at.b, at.h, at.n, tile.begin + i, outside_), all, i);
      }
      const KeyRange met = all.within(columns);
      const int64_t first = space_.place(met.begin);
      product<true>(Left<T>{to_.weights + first - place, kTileColumns, 1},
                    Right<T>{to_.values + first * padded_, padded_}, rows, padded_ / W, met.count(),
                    Rows<T>{to_.out, padded_});
    }
  }

  // A row of products becomes weights; what was summed under a smaller maximum is scaled down.
  void soften(const AttentionRow<T>& row, KeyRange columns, int64_t i) {
    T* weights = to_.weights + i * kTileColumns;
    const int64_t count = columns.count();
    const bool plain = are_logits(row, columns.begin, count);
    R largest(-__builtin_inff());
    for (int64_t j = 0; j < count; j += W) {
      R x = R::load(weights + j);
      if (!plain) {
        x = logits(row, x, columns.begin + j);
        x.store(weights + j);
      }
      largest = select(largest < x, x, largest);
    }
    const T before = to_.top[i], found = max_lanes(largest);
    const T top = before < found ? found : before;
    // With no column so far every logit is -inf, and so is the maximum, which cannot be subtracted.
    const T subtracted = top == -__builtin_inff() ? T(0) : top;
    R total(0);
    for (int64_t j = 0; j < count; j += W) {
      const R weight = attention_weight(R::load(weights + j), R(subtracted));
      weight.store(weights + j);
      total += weight;
    }
    if (before < top) {
      const T factor = attention_weight(before, subtracted);
      T* out = to_.out + i * padded_;
      for (int64_t j = 0; j < padded_; j += W) (R(factor) * R::load(out + j)).store(out + j);
      to_.sum[i] *= factor;
      to_.top[i] = top;
    }
    to_.sum[i] += sum_lanes(total);
  }

  void store(int64_t b, int64_t h, KeyRange tile) const {
    T* out = args_.out.slice(b, h) + tile.begin * args_.out.row;
    T* stats = args_.stats + ((b * shape_.heads + h) * shape_.length + tile.begin) * 2;
    for (int64_t i = 0; i < tile.count(); ++i) {
      store_row<R>(to_.out + i * padded_, width_, T(1) / to_.sum[i], out + i * args_.out.row);
      stats[2 * i] = to_.top[i];
      stats[2 * i + 1] = to_.sum[i];
    }
  }

  const LocalAttentionArgs<E>& args_;
  const LocalAttentionInputs<E>& in_;
  const LocalAttentionShape& shape_;
  const bool outside_;
  const int64_t width_, padded_;
  const ColumnSpace space_;
  const ForwardBuffers<T> to_;
};

template <class E>
void forward(const LocalAttentionArgs<E>& args, double* workspace, int64_t begin, int64_t end) {
  Forward<E> slice(args, workspace);
  each_slice(args.in.shape, begin, end, slice);
}

template <class E>
void backward(const LocalAttentionBackwardArgs<E>& args, double* workspace, int64_t begin,
              int64_t end) {
  Backward<E> slice(args, workspace);
  each_slice(args.in.shape, begin, end, slice);
}

}  // namespace

template <class E>
LocalAttentionKernels<E> local_attention_kernels() {
  return {forward_workspace<E>, backward_workspace<E>, forward<E>, backward<E>};
}
template LocalAttentionKernels<float> local_attention_kernels();
template LocalAttentionKernels<double> local_attention_kernels();
template LocalAttentionKernels<Float16> local_attention_kernels();
template LocalAttentionKernels<BFloat16> local_attention_kernels();

}  // namespace ecg::cpu::ECG_ISA

// SPDX-License-Identifier: MIT
//
// What forward and backward of the local attention share: queries, keys and values packed for the
// matrix products, and the logits of a tile.
#pragma once

#include "ecgcore/kernels/local_attention.h"
#include "ecgcore/math/transpose.h"
#include "matrix_tiles.h"
#include "scratch.h"

namespace ecg::cpu::ECG_ISA {
namespace {

template <class T>
using Lanes = Pack<T, kLanes<T>>;

// Rows of queries and columns of keys that are worked on at a time: the matrices of a tile stay in
// the first-level cache, or nearly so.
inline constexpr int64_t kTileRows = 64;
inline constexpr int64_t kTileColumns = 128;

ECG_HD int64_t round_down(int64_t x, int64_t step) { return x / step * step; }
ECG_HD int64_t round_up(int64_t x, int64_t step) { return (x + step - 1) / step * step; }

// Rows of a slice by their place in the sequence; zeros outside it.
template <class E>
struct Sequence {
  const E* data;
  int64_t row, length;
  const E* zeros;

  const E* at(int64_t i) const { return i >= 0 && i < length ? data + i * row : zeros; }
};

// to[i, :] = factor x[first + i, :], filled up with zeros to dense rows of `padded`.
template <class R, class E, class T>
inline void pack_rows(const Sequence<E>& x, int64_t first, int64_t rows, int64_t width,
                      int64_t padded, T factor, T* to) {
  constexpr int W = RealTraits<R>::kWidth;
  for (int64_t i = 0; i < rows; ++i) {
    const E* from = x.at(first + i);
    T* out = to + i * padded;
    int64_t j = 0;
    for (; j + W <= width; j += W) (R(factor) * load_as<R>(from + j)).store(out + j);
    for (; j < width; ++j) out[j] = factor * to_real<T>(from[j]);
    for (; j < padded; ++j) out[j] = T(0);
  }
}

// to[j] = factor x[j], without what fills the row up.
template <class R, class E, class T>
inline void store_row(const T* x, int64_t width, T factor, E* to) {
  constexpr int W = RealTraits<R>::kWidth;
  int64_t j = 0;
  for (; j + W <= width; j += W) store_as(to + j, R(factor) * R::load(x + j));
  for (; j < width; ++j) to[j] = from_real<E>(factor * x[j]);
}

// Columns [first, first + columns) packed by lanes: depth k of lanes p at to[p * width * W + k *
// W].
template <class R, class E, class T>
inline void pack_columns(const Sequence<E>& x, int64_t first, int64_t columns, int64_t width,
                         T* to) {
  constexpr int W = RealTraits<R>::kWidth;
  for (int64_t j = 0; j < columns; j += W) {
    const E* rows[W];
    for (int i = 0; i < W; ++i) rows[i] = x.at(first + j + i);
    load_lanes(rows, width, reinterpret_cast<R*>(to + j * width));
  }
}

// Where columns lie in the packed arrays of a slice: column `origin` first, `size` in all.
struct ColumnSpace {
  int64_t origin, end, size;

  ColumnSpace(const LocalAttentionShape& shape, bool outside, int64_t lanes) {
    end = outside ? (shape.blocks() + 1) * shape.block : shape.length;
    origin = outside ? -shape.block : 0;
    size = round_up(end - origin, lanes);
  }
  KeyRange columns() const { return {origin, end}; }
  int64_t place(int64_t column) const { return column - origin; }
};

// How far the arrays of a slice are packed, from the lanes of column `first` on.
class Packed {
 public:
  Packed(const ColumnSpace& space, int64_t first, int64_t lanes)
      : space_(space), lanes_(lanes), end_(round_down(space.place(first), lanes)) {}

  // visit(place, columns) for what is missing up to column `last`, in whole lanes.
  template <class Visit>
  void ensure(int64_t last, const Visit& visit) {
    const int64_t wanted = round_up(space_.place(last), lanes_);
    if (wanted > end_) {
      visit(end_, wanted - end_);
      end_ = wanted;
    }
  }

 private:
  const ColumnSpace& space_;
  int64_t lanes_, end_;
};

// A block of a slice.
struct AttentionTask {
  int64_t b, h, n;
};

// slice.run(b, h, first block, end of blocks) for every slice of a range of tasks.
template <class Slice>
void each_slice(const LocalAttentionShape& shape, int64_t begin, int64_t end, Slice& slice) {
  const int64_t blocks = shape.blocks();
  while (begin < end) {
    const int64_t at = begin / blocks, first = begin % blocks;
    const int64_t count = end - begin < blocks - first ? end - begin : blocks - first;
    slice.run(at % shape.batch, at / shape.batch, first, first + count);
    begin += count;
  }
}

// Whether the products of `count` columns from `first` on are their logits already.
template <class T>
inline bool are_logits(const AttentionRow<T>& row, int64_t first, int64_t count) {
  return row.bias == nullptr && row.mask == nullptr && row.met.begin <= first &&
         first + count <= row.met.end;
}

// Lanes of products from column `first` on become logits: -inf where they take no part.
template <class R, class T>
ECG_HD R logits(const AttentionRow<T>& row, R product, int64_t first) {
  constexpr int W = RealTraits<R>::kWidth;
  if (row.met.begin <= first && first + W <= row.met.end) {
    if (row.bias != nullptr) product += R::load(row.bias + first);
    if (row.mask != nullptr) {
      R added(0);
      for (int i = 0; i < W; ++i)
        added.lanes[i] = row.mask[first + i] != 0 ? T(0) : T(kAttentionMasked);
      product += added;
    }
    return product;
  }
  for (int i = 0; i < W; ++i) {
    const bool met = row.met.has(first + i);
    product.lanes[i] = met ? row.logit(product.lanes[i], first + i) : -__builtin_inff();
  }
  return product;
}

}  // namespace
}  // namespace ecg::cpu::ECG_ISA

// SPDX-License-Identifier: MIT
//
// Tiles of rows and columns whose sums stay in registers (Goto and van de Geijn 2008, "Anatomy of
// High-Performance Matrix Multiplication", with only one of the two operands packed: rows of x are
// read where they lie, one number at a time). Included by the kernels that multiply packed weights,
// which are compiled once per instruction set.
#pragma once

#include "packed_terms.h"

namespace ecg::cpu::ECG_ISA {
namespace {

constexpr int kTileVectors = 2;
// Rows of a full tile: their sums, a vector of weights for each column and one number of x fill the
// registers, 32 or 16. A lone column of vectors takes more rows, or its sums would wait for each
// other.
template <class W, int kVectors>
constexpr int kTileRows = kVectorBytes == 64 ? 12 : (Terms<W>::kRegisters == 1 ? 12 : 8) / kVectors;
constexpr int64_t kAhead = 16;  // rows of the panel that are fetched ahead

// Where the weights of a column of a tile lie: vector j of step k at k * kPanelFeatures + j *
// apart.
template <class W>
struct Column {
  // A panel holds one vector of AVX-512 floats a step, else several.
  static constexpr bool kOnePanel = kPanelFeatures > kLanes<RealOf<W>>;

  const W* panel;
  int64_t panel_size;

  ECG_HD int64_t apart() const { return kOnePanel ? kLanes<RealOf<W>> : panel_size; }
};

// Dense vectors, rows of them `row` apart.
template <class T>
struct Rows {
  T* data;
  int64_t row;
};

// What becomes of the sums of a tile.
template <class T>
struct Finish {
  const T* before;  // sums of the terms before, rows of kVectors vectors; null: none
  const T* offset;  // added to what is complete; null: more terms follow
  bool relu, accumulate;
};

// out[i, j] (+)= f(Σ_k x[i, k] weights[j][k] + before + offset)
template <int kRows, int kVectors, class W, class T = RealOf<W>>
void tile(Rows<const typename Terms<W>::X> x, Column<W> weights, int64_t steps, Finish<T> finish,
          Rows<T> out) {
  using R = VectorOf<T>;
  const typename Terms<W>::X* ECG_RESTRICT from = x.data;
  R sum[kRows][kVectors];
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kVectors; ++j) sum[i][j] = R(0);
  }
  const W* panel = weights.panel;
  const int64_t apart = weights.apart();
#pragma GCC unroll 4
  for (int64_t k = 0; k < steps; ++k) {
    typename Terms<W>::Weights w[kVectors];
    for (int j = 0; j < kVectors; ++j) w[j] = Terms<W>::load(panel + j * apart);
    __builtin_prefetch(panel + kAhead * kPanelFeatures);
    if (!Column<W>::kOnePanel && kVectors > 1) {
      __builtin_prefetch(panel + apart + kAhead * kPanelFeatures);
    }
    panel += kPanelFeatures;
    for (int i = 0; i < kRows; ++i) {
      const typename Terms<W>::X value = from[i * x.row + k];
      for (int j = 0; j < kVectors; ++j) Terms<W>::add(sum[i][j], value, w[j]);
    }
  }
  const auto each = [&](const auto& body) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) body(sum[i][j], i, j);
    }
  };
  if (finish.before != nullptr) {
    each([&](R& s, int i, int j) { s += R::load(finish.before + (i * kVectors + j) * kLanes<T>); });
  }
  if (finish.offset != nullptr) {
    each([&](R& s, int, int j) { s += R::load(finish.offset + j * kLanes<T>); });
    if (finish.relu) each([&](R& s, int, int) { s = select(s < R(0), R(0), s); });
  }
  const auto at = [&](int i, int j) { return out.data + i * out.row + j * kLanes<T>; };
  if (finish.accumulate) each([&](R& s, int i, int j) { s += R::load(at(i, j)); });
  each([&](R& s, int i, int j) { s.store(at(i, j)); });
}

// A tile of at most kRows rows.
template <int kRows, int kVectors, class W, class T = RealOf<W>>
void tile_of(int64_t rows, Rows<const typename Terms<W>::X> x, Column<W> weights, int64_t steps,
             Finish<T> finish, Rows<T> out) {
  if constexpr (kRows > 1) {
    if (rows < kRows) {
      return tile_of<kRows - 1, kVectors>(rows, x, weights, steps, finish, out);
    }
  }
  tile<kRows, kVectors>(x, weights, steps, finish, out);
}

// All sums of one column of features, of `rows` rows of x. A sum goes in parts of at most kLongest
// steps, since rounding errors grow with the length of a chain, and the part of a panel that they
// read stays in L1; meanwhile sums wait in `parts`, rows of kVectors vectors.
template <int kVectors, int64_t kLongest, class W, class T = RealOf<W>>
void column_of(Rows<const typename Terms<W>::X> x, int64_t rows, Column<W> weights, int64_t steps,
               T* parts, Finish<T> finish, Rows<T> out) {
  constexpr int64_t kRows = kTileRows<W, kVectors>, kWidth = kVectors * kLanes<T>;
  const int64_t count = steps <= kLongest ? 1 : (steps + kLongest - 1) / kLongest;
  for (int64_t part = 0; part < count; ++part) {
    const int64_t k = part * steps / count, next = (part + 1) * steps / count;
    const bool last = part == count - 1;
    for (int64_t row = 0; row < rows; row += kRows) {
      T* own = parts + row * kWidth;
      Finish<T> then = last ? finish : Finish<T>{};
      if (part > 0) then.before = own;
      tile_of<kRows, kVectors>(
          rows - row, {x.data + row * x.row + k, x.row}, weights, next - k, then,
          last ? Rows<T>{out.data + row * out.row, out.row} : Rows<T>{own, kWidth});
    }
    weights.panel += (next - k) * kPanelFeatures;
  }
}

// body.template operator()<kVectors>(n, weights, offset, live) for each column of the panels: its
// first feature n, what is added to it, offset_of(feature), and how many features it has.
template <class W, class OffsetOf, class Body>
void each_column(const W* packed, int64_t steps, int64_t features, int64_t panel_begin,
                 int64_t panel_end, const OffsetOf& offset_of, const Body& body) {
  using T = RealOf<W>;
  constexpr int64_t kPanel = kPanelFeatures, kColumn = kTileVectors * kLanes<T>;
  const int64_t end = panel_end * kPanel < features ? panel_end * kPanel : features;
  for (int64_t n = panel_begin * kPanel; n < end; n += kColumn) {
    const int64_t live = end - n;
    T offset[kColumn] = {};
    for (int64_t i = 0; i < kColumn && i < live; ++i) offset[i] = offset_of(n + i);
    const Column<W> weights{packed + n / kPanel * kPanel * steps + n % kPanel, kPanel * steps};
    if (live > kLanes<T>) {
      body.template operator()<2>(n, weights, offset, live);
    } else {
      body.template operator()<1>(n, weights, offset, live);
    }
  }
}

// body(b, first, count) for pieces of the range [begin, end) of samples of `length` rows or tiles
// each: at most `most` of one sample.
template <class Body>
void each_chunk(int64_t begin, int64_t end, int64_t length, int64_t most, const Body& body) {
  while (begin < end) {
    const int64_t b = begin / length, first = begin % length;
    int64_t count = length - first < end - begin ? length - first : end - begin;
    count = count < most ? count : most;
    body(b, first, count);
    begin += count;
  }
}

// A row in pairs of bfloat16, zero beyond the last number.
template <class W>
void round_row(const RealOf<W>* ECG_RESTRICT row, int64_t inner,
               typename Terms<W>::X* ECG_RESTRICT to) {
  for (int64_t k = 0; k < inner / 2; ++k) to[k] = Terms<W>::round(row[2 * k], row[2 * k + 1]);
  if (inner % 2 == 1) to[inner / 2] = Terms<W>::round(row[inner - 1], 0);
}

}  // namespace
}  // namespace ecg::cpu::ECG_ISA

// SPDX-License-Identifier: MIT
//
// A small real matrix product whose right side and result are rows of whole vectors. Included by
// kernels, inside their per-instruction-set namespace.
#pragma once

#include "ecgcore/math/pack.h"

namespace ecg::cpu::ECG_ISA {
namespace {

// left[i, k] lies at i * row + k * column.
template <class T>
struct Left {
  const T* data;
  int64_t row, column;
};
// Vector j of row k lies at k * row + j * vector: dense rows, or columns packed by lanes.
template <class T>
struct Right {
  const T* data;
  int64_t row, vector = kLanes<T>;
};
// Dense rows of whole vectors.
template <class T>
struct Rows {
  T* data;
  int64_t row;
};

// out[i, j] (+)= Σ_k left[i, k] right[k, j] for kRows rows and kVectors vectors j.
template <bool kAdd, int kRows, int kVectors, class T>
ECG_HD void product_tile(Left<T> left, Right<T> right, int64_t inner, Rows<T> out) {
  using R = Pack<T, kLanes<T>>;
  R sum[kRows][kVectors];
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kVectors; ++j) sum[i][j] = R(0);
  }
  for (int64_t k = 0; k < inner; ++k) {
    R x[kVectors];
    for (int j = 0; j < kVectors; ++j)
      x[j] = R::load(right.data + k * right.row + j * right.vector);
    for (int i = 0; i < kRows; ++i) {
      const R weight(left.data[i * left.row + k * left.column]);
      for (int j = 0; j < kVectors; ++j) sum[i][j] += weight * x[j];
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kVectors; ++j) {
      T* to = out.data + i * out.row + j * kLanes<T>;
      if constexpr (kAdd) sum[i][j] += R::load(to);
      sum[i][j].store(to);
    }
  }
}

// The same for any number of rows: what kRows leaves over goes to tiles of half as many.
template <bool kAdd, int kRows, int kVectors, class T>
void product_rows(Left<T> left, Right<T> right, int64_t rows, int64_t inner, Rows<T> out) {
  int64_t i = 0;
  const auto part = [&] { return Left<T>{left.data + i * left.row, left.row, left.column}; };
  const auto to = [&] { return Rows<T>{out.data + i * out.row, out.row}; };
  for (; i + kRows <= rows; i += kRows) {
    product_tile<kAdd, kRows, kVectors>(part(), right, inner, to());
  }
  if constexpr (kRows > 1) {
    if (i < rows) product_rows<kAdd, kRows / 2, kVectors>(part(), right, rows - i, inner, to());
  }
}

// The same for any number of rows and vectors. An entry is one chain of multiply-adds over k,
// whatever tile it falls into.
template <bool kAdd, class T>
void product(Left<T> left, Right<T> right, int64_t rows, int64_t vectors, int64_t inner,
             Rows<T> out) {
  constexpr int kTile = kVectorBytes == 64 ? 8 : 4;  // of 32 and 16 registers
  for (int64_t j = 0; j < vectors; j += 2) {
    const Right<T> x{right.data + j * right.vector, right.row, right.vector};
    const Rows<T> to{out.data + j * kLanes<T>, out.row};
    if (j + 1 < vectors) {
      product_rows<kAdd, kTile, 2>(left, x, rows, inner, to);
    } else {
      product_rows<kAdd, kTile, 1>(left, x, rows, inner, to);
    }
  }
}

}  // namespace
}  // namespace ecg::cpu::ECG_ISA

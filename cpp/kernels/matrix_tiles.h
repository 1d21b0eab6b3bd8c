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
// Rows of whole vectors.
template <class P>
struct Rows {
  P* data;
  int64_t row;
};

// out[i, j] (+)= Σ_k left[i, k] right[k, j] for kRows rows and kVectors vectors j.
template <bool kAdd, int kRows, int kVectors, class T>
ECG_HD void product_tile(Left<T> left, Rows<const T> right, int64_t inner, Rows<T> out) {
  using R = Pack<T, kLanes<T>>;
  R sum[kRows][kVectors];
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kVectors; ++j) sum[i][j] = R(0);
  }
  for (int64_t k = 0; k < inner; ++k) {
    R x[kVectors];
    for (int j = 0; j < kVectors; ++j) x[j] = R::load(right.data + k * right.row + j * kLanes<T>);
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

// The same for any number of rows, and kColumns columns, a multiple of two vectors.
template <bool kAdd, int kColumns, class T>
void product(Left<T> left, Rows<const T> right, int64_t rows, int64_t inner, Rows<T> out) {
  constexpr int kTile = kVectorBytes == 64 ? 8 : 4;  // of 32 and 16 registers
  constexpr int kVectors = 2;
  static_assert(kColumns % (kVectors * kLanes<T>) == 0);
  for (int j = 0; j < kColumns; j += kVectors * kLanes<T>) {
    const Rows<const T> x{right.data + j, right.row};
    const auto part = [&](int64_t i) -> Left<T> {
      return {left.data + i * left.row, left.row, left.column};
    };
    const auto to = [&](int64_t i) -> Rows<T> { return {out.data + i * out.row + j, out.row}; };
    int64_t i = 0;
    for (; i + kTile <= rows; i += kTile) {
      product_tile<kAdd, kTile, kVectors>(part(i), x, inner, to(i));
    }
    for (; i < rows; ++i) product_tile<kAdd, 1, kVectors>(part(i), x, inner, to(i));
  }
}

}  // namespace
}  // namespace ecg::cpu::ECG_ISA

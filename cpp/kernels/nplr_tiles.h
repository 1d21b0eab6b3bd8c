// SPDX-License-Identifier: MIT
//
// The two real matrix products the NPLR kernels consist of, over planes of kBlock nodes: a
// complex quantity at a block of nodes is its real plane followed by its imaginary plane.
// Included by nplr.cpp only, inside its per-instruction-set namespace.
#pragma once

#include "ecgcore/math/complex.h"
#include "ecgcore/math/pack.h"

namespace ecg::cpu::ECG_ISA {
namespace {

constexpr int kBlock = 64;
constexpr int kPlanes = 2 * kBlock;

// use(i, Σ_k weights[i, k] in[k]) for the kRows complex rows from `first` on, at one vector of
// nodes.
template <int kRows, class R, class T, class Use>
ECG_HD void weighted_tile(const T* weights, int64_t row_stride, int64_t k_stride, const T* in,
                          int64_t first, int64_t count, const Use& use) {
  Complex<R> sum[kRows];
  for (int i = 0; i < kRows; ++i) sum[i] = {R(0), R(0)};
  weights += first * row_stride;
  for (int64_t k = 0; k < count; ++k) {
    const R x = R::load(in + k * kPlanes), y = R::load(in + k * kPlanes + kBlock);
    for (int i = 0; i < kRows; ++i) {
      const R weight(weights[i * row_stride + k * k_stride]);
      sum[i].re += weight * x;
      sum[i].im += weight * y;
    }
  }
  for (int i = 0; i < kRows; ++i) use(first + i, sum[i]);
}

// The same for all rows. weights (rows, count), in (count, planes).
template <class R, class T, class Use>
ECG_HD void weighted_rows(const T* weights, int64_t row_stride, int64_t k_stride, const T* in,
                          int64_t rows, int64_t count, const Use& use) {
  int64_t i = 0;
  const auto tile = [&]<int kRows>() {
    weighted_tile<kRows, R>(weights, row_stride, k_stride, in, i, count, use);
    i += kRows;
  };
  while (rows - i >= 6) tile.template operator()<6>();
  switch (rows - i) {
    case 5:
      tile.template operator()<5>();
      break;
    case 4:
      tile.template operator()<4>();
      break;
    case 3:
      tile.template operator()<3>();
      break;
    case 2:
      tile.template operator()<2>();
      break;
    case 1:
      tile.template operator()<1>();
      break;
  }
}

// sums[j, i] += Σ_nodes Re(conj(left[i]) right[j]), lane by lane, for a tile of kLeft x kRight.
// A block is summed on its own first: short sums lose less.
template <int kLeft, int kRight, class R, class T>
ECG_HD void correlate_tile(const T* left, const T* right, int width, T* sums, int64_t sums_stride) {
  constexpr int kWidth = RealTraits<R>::kWidth;
  R acc[kRight][kLeft];
  for (int j = 0; j < kRight; ++j) {
    for (int i = 0; i < kLeft; ++i) acc[j][i] = R(0);
  }
  for (int plane = 0; plane < kPlanes; plane += kBlock) {
    for (int lane = plane; lane < plane + width; lane += kWidth) {
      R x[kLeft];
      for (int i = 0; i < kLeft; ++i) x[i] = R::load(left + i * kPlanes + lane);
      for (int j = 0; j < kRight; ++j) {
        const R y = R::load(right + j * kPlanes + lane);
        for (int i = 0; i < kLeft; ++i) acc[j][i] += x[i] * y;
      }
    }
  }
  for (int j = 0; j < kRight; ++j) {
    for (int i = 0; i < kLeft; ++i) {
      T* to = sums + (j * sums_stride + i) * kWidth;
      (R::load(to) + acc[j][i]).store(to);
    }
  }
}

// sums (right_count, left_count) of packs += the correlations of every left with every right plane.
// Tiles as large as the registers hold: each sum is loaded and stored once a block, and each plane
// read from memory once a tile.
template <class R, class T>
void correlate(const T* left, int64_t left_count, const T* right, int64_t right_count, int width,
               T* sums) {
  constexpr int kWidth = RealTraits<R>::kWidth;
  constexpr int kTile = kVectorBytes == 64 ? 24 : 8;  // of 32 or 16 registers
  int64_t i = 0;
  const auto column = [&]<int kLeft>() {
    int64_t j = 0;
    const auto tile = [&]<int kRight>() {
      correlate_tile<kLeft, kRight, R>(left + i * kPlanes, right + j * kPlanes, width,
                                       sums + (j * left_count + i) * kWidth, left_count);
      j += kRight;
    };
    constexpr int kMost = kTile / kLeft < 4 ? kTile / kLeft : 4;
    while (right_count - j >= kMost) tile.template operator()<kMost>();
    while (right_count > j) tile.template operator()<1>();
    i += kLeft;
  };
  if constexpr (kTile == 24) {
    while (left_count - i >= 12) column.template operator()<12>();
    if (left_count - i >= 8) column.template operator()<8>();
  }
  while (left_count - i >= 4) column.template operator()<4>();
  if (left_count - i >= 2) column.template operator()<2>();
  if (left_count > i) column.template operator()<1>();
}

}  // namespace
}  // namespace ecg::cpu::ECG_ISA

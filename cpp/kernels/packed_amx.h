// SPDX-License-Identifier: MIT
//
// Columns of features by the tile unit: an instruction multiplies 16 rows of 16 pairs of bfloat16
// by 16 pairs of 16 features, which are 16 steps of a panel as they lie. Included by
// packed_linear.cpp where it is compiled for AMX.
#pragma once

#include "packed_tiles.h"
#include "tile_unit.h"

namespace ecg::cpu::ECG_ISA {
namespace {

constexpr int64_t kUnitRows = 16, kUnitSteps = 16;
constexpr int64_t kUnitTile = kUnitSteps * kPanelFeatures;  // entries of a panel in a tile

// The sums of kHalves · 16 rows and kVectors · 16 features, from `offset` on:
// sums[i, n] = offset[n] + Σ_k x[i, k] weights[k, n]. `rest`: the weights of the steps behind the
// last multiple of 16, and zeros.
template <int kHalves, int kVectors>
void unit_sums(Rows<const BFloat16Pair> x, Column<BFloat16Pair> weights, int64_t steps,
               const BFloat16Pair* rest, const float* offset, Rows<float> sums) {
  constexpr int64_t kStride = kPanelFeatures * sizeof(BFloat16Pair);
  const int64_t x_row = x.row * static_cast<int64_t>(sizeof(BFloat16Pair));
  const BFloat16Pair *upper = x.data, *lower = x.data + kUnitRows * x.row;
  const auto multiply = [&](const BFloat16Pair* left, const BFloat16Pair* right) {
    ECG_TILE_LOAD(6, left, kStride);
    ECG_TILE_LOAD(4, upper, x_row);
    ECG_TILE_MULTIPLY(0, 4, 6);
    if constexpr (kVectors == 2) {
      ECG_TILE_LOAD(7, right, kStride);
      ECG_TILE_MULTIPLY(1, 4, 7);
    }
    if constexpr (kHalves == 2) {
      ECG_TILE_LOAD(5, lower, x_row);
      ECG_TILE_MULTIPLY(2, 5, 6);
      if constexpr (kVectors == 2) ECG_TILE_MULTIPLY(3, 5, 7);
    }
    upper += kUnitSteps;
    lower += kUnitSteps;
  };
  ECG_TILE_LOAD(0, offset, 0);  // the same for each row
  if constexpr (kVectors == 2) ECG_TILE_LOAD(1, offset + kLanes<float>, 0);
  if constexpr (kHalves == 2) ECG_TILE_LOAD(2, offset, 0);
  if constexpr (kHalves == 2 && kVectors == 2) ECG_TILE_LOAD(3, offset + kLanes<float>, 0);
  const int64_t apart = weights.apart();
  const BFloat16Pair* panel = weights.panel;
  for (int64_t k = 0; k + kUnitSteps <= steps; k += kUnitSteps) {
    multiply(panel, panel + apart);
    panel += kUnitTile;
    for (int64_t i = 0; i < kUnitTile; i += kPanelFeatures) {
      __builtin_prefetch(panel + kUnitTile + i);
      if constexpr (kVectors == 2) __builtin_prefetch(panel + apart + kUnitTile + i);
    }
  }
  if (steps % kUnitSteps != 0) multiply(rest, rest + kUnitTile);
  const int64_t row = sums.row * static_cast<int64_t>(sizeof(float));
  float* const below = sums.data + kUnitRows * sums.row;
  ECG_TILE_STORE(0, sums.data, row);
  if constexpr (kVectors == 2) ECG_TILE_STORE(1, sums.data + kLanes<float>, row);
  if constexpr (kHalves == 2) ECG_TILE_STORE(2, below, row);
  if constexpr (kHalves == 2 && kVectors == 2) ECG_TILE_STORE(3, below + kLanes<float>, row);
}

// What becomes of the sums of `rows` rows, as in tile().
template <int kVectors>
void finish_sums(Rows<const float> sums, int64_t rows, Finish<float> finish, Rows<float> out) {
  using R = VectorOf<float>;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < kVectors * kLanes<float>; j += kLanes<float>) {
      R s = R::load(sums.data + i * sums.row + j);
      float* const at = out.data + i * out.row + j;
      if (finish.relu) s = select(s < R(0), R(0), s);
      if (finish.accumulate) s += R::load(at);
      s.store(at);
    }
  }
}

// column_of of pairs. Rows of x reach to the next multiple of 16 steps and, in number, of 16; sums
// are not parted, since they are far more exact than what they add.
template <int kVectors, int64_t kLongest>
void column_of(Rows<const BFloat16Pair> x, int64_t rows, Column<BFloat16Pair> weights,
               int64_t steps, float*, Finish<float> finish, Rows<float> out) {
  constexpr int64_t kBlockRows = 2 * kUnitRows, kWidth = kVectors * kLanes<float>;
  alignas(64) BFloat16Pair rest[kVectors * kUnitTile];
  const int64_t whole = steps / kUnitSteps * kUnitSteps;
  if (whole < steps) {
    for (int j = 0; j < kVectors; ++j) {
      const BFloat16Pair* from = weights.panel + j * weights.apart() + whole * kPanelFeatures;
      BFloat16Pair* to = rest + j * kUnitTile;
      for (int64_t i = 0; i < kUnitTile; ++i) {
        to[i] = i < (steps - whole) * kPanelFeatures ? from[i] : BFloat16Pair{0};
      }
    }
  }
  touch(rest);
  touch(const_cast<float*>(finish.offset));
  for (int64_t row = 0; row < rows; row += kBlockRows) {
    alignas(64) float block[kBlockRows * kWidth];
    const int64_t left = rows - row < kBlockRows ? rows - row : kBlockRows;
    const Rows<const BFloat16Pair> from{x.data + row * x.row, x.row};
    const Rows<float> to{out.data + row * out.row, out.row};
    for (int64_t i = 0; i < left; ++i) {  // meanwhile the results' lines come near
      for (int j = 0; j < kVectors; ++j)
        __builtin_prefetch(to.data + i * to.row + j * kLanes<float>, 1);
    }
    const bool done = left % kUnitRows == 0 && !finish.relu && !finish.accumulate;
    const Rows<float> sums = done ? to : Rows<float>{block, kWidth};
    if (left > kUnitRows) {
      unit_sums<2, kVectors>(from, weights, steps, rest, finish.offset, sums);
    } else {
      unit_sums<1, kVectors>(from, weights, steps, rest, finish.offset, sums);
    }
    if (!done) finish_sums<kVectors>({sums.data, sums.row}, left, finish, to);
  }
}

}  // namespace
}  // namespace ecg::cpu::ECG_ISA

// SPDX-License-Identifier: MIT
//
// Elementwise work on (samples, rows, length) elements, in tiles of one sample, one block each.
#pragma once

#include "ecgcore/math/block.h"

namespace ecg::cuda {

inline constexpr int kTileThreads = 256;
inline constexpr int kTileElements = 4 * kTileThreads;

struct SampleTiles {
  int64_t samples, rows, length;

  ECG_HD int64_t of_sample() const { return ceil_div(rows * length, kTileElements); }
  ECG_HD int64_t count() const { return samples * of_sample(); }

  // body(row, at, i) for the thread's elements of a tile, neighbours in memory on neighbouring
  // threads: element i of a row, counted over all samples, which lies at `at`. One 64-bit division
  // finds the tile's first row; short rows are counted on with 32 bits.
  template <class Body>
  ECG_HD void each(int64_t tile, int thread, const Body& body) const {
    const int64_t sample = tile / of_sample();
    const int64_t begin = (tile - sample * of_sample()) * kTileElements;
    const int64_t left = rows * length - begin;
    const int64_t first_row = begin / length, first = begin - first_row * length;
    for (int j = thread; j < kTileElements && j < left; j += kTileThreads) {
      int64_t row = first_row, i = first + j;
      if (i >= length) {
        const int64_t skipped =
            length < kTileElements ? static_cast<uint32_t>(i) / static_cast<uint32_t>(length) : 1;
        row += skipped;
        i -= skipped * length;
      }
      row += sample * rows;
      body(row, row * length + i, i);
    }
  }
};

}  // namespace ecg::cuda

// SPDX-License-Identifier: MIT
//
// Rows of features times packed weights on the CPU: chunks of rows, read where they lie or, if they
// are to be rounded, from a copy, stay in L2 while the weights' panels pass by.
#include "ecgcore/kernels/packed_linear.h"

#include "packed_tiles.h"

namespace ecg::cpu::ECG_ISA {
namespace {

constexpr int64_t kLongestSum = 128;
constexpr int64_t kChunkRows = 96;  // of x, read over and over from L2; a multiple of all tiles

// One column of features of a chunk of rows, of which `live` features exist.
template <int kVectors, class W, class T = RealOf<W>>
void column_of_rows(const PackedLinearArgs<W>& args, Column<W> weights, const T* offset,
                    int64_t live, Rows<const typename Terms<W>::X> x, int64_t rows, T* out) {
  constexpr int64_t kWidth = kVectors * kLanes<T>;
  T sums[kChunkRows * kWidth];
  const bool whole = live >= kWidth;
  column_of<kVectors, kLongestSum>(x, rows, weights, steps_of<W>(args.inner), sums,
                                   Finish<T>{nullptr, offset, args.relu, whole && args.accumulate},
                                   whole ? Rows<T>{out, args.out_row} : Rows<T>{sums, kWidth});
  if (whole) return;
  for (int64_t row = 0; row < rows; ++row, out += args.out_row) {
    const T* own = sums + row * kWidth;
    for (int64_t i = 0; i < live; ++i) out[i] = args.accumulate ? out[i] + own[i] : own[i];
  }
}

// Rows of x as the tiles read them.
template <class W>
Rows<const typename Terms<W>::X> rows_of(const RealOf<W>* x, int64_t x_row, int64_t rows,
                                         int64_t inner, void* scratch) {
  if constexpr (!Terms<W>::kCopiesRows) {
    return {x, x_row};
  } else {
    const int64_t steps = steps_of<W>(inner);
    auto* const copies = static_cast<typename Terms<W>::X*>(scratch);
    for (int64_t row = 0; row < rows; ++row) {
      round_row<W>(x + row * x_row, inner, copies + row * steps);
    }
    return {copies, steps};
  }
}

template <class W>
int64_t scratch(int64_t inner) {
  using X = typename Terms<W>::X;
  return Terms<W>::kCopiesRows ? kChunkRows * steps_of<W>(inner) * static_cast<int64_t>(sizeof(X))
                               : 0;
}

// Rows of one sample, at most kChunkRows.
template <class W>
void chunk_of(const PackedLinearArgs<W>& args, void* scratch, int64_t b, int64_t row, int64_t rows,
              int64_t panel_begin, int64_t panel_end) {
  using T = RealOf<W>;
  constexpr int64_t kPanel = kPanelFeatures;
  const int64_t steps = steps_of<W>(args.inner);
  const auto x = rows_of<W>(args.x + b * args.x_batch + row * args.x_row, args.x_row, rows,
                            args.inner, scratch);
  T* out = args.out + b * args.out_batch + row * args.out_row;
  const int64_t end = panel_end * kPanel < args.features ? panel_end * kPanel : args.features;
  for (int64_t n = panel_begin * kPanel; n < end; n += kTileVectors * kLanes<T>) {
    const int64_t live = end - n;
    T offset[kTileVectors * kLanes<T>] = {};
    for (int64_t i = 0; i < kTileVectors * kLanes<T> && i < live; ++i) {
      offset[i] = (args.bias == nullptr ? T(0) : args.bias[n + i]) +
                  (args.shift == nullptr ? T(0) : args.shift[b * args.shift_batch + n + i]);
    }
    const Column<W> weights{args.packed + n / kPanel * kPanel * steps + n % kPanel, kPanel * steps};
    if (live > kLanes<T>) {
      column_of_rows<2>(args, weights, offset, live, x, rows, out + n);
    } else {
      column_of_rows<1>(args, weights, offset, live, x, rows, out + n);
    }
  }
}

template <class W>
void forward(const PackedLinearArgs<W>& args, void* scratch, int64_t row_begin, int64_t row_end,
             int64_t panel_begin, int64_t panel_end) {
  for (int64_t row = row_begin; row < row_end;) {
    const int64_t b = row / args.length, l = row % args.length;
    int64_t rows = args.length - l < row_end - row ? args.length - l : row_end - row;
    rows = rows < kChunkRows ? rows : kChunkRows;
    chunk_of(args, scratch, b, l, rows, panel_begin, panel_end);
    row += rows;
  }
}

}  // namespace

template <class W>
PackedLinearKernels<W> packed_linear_kernels() {
  return {scratch<W>, forward<W>};
}
template PackedLinearKernels<float> packed_linear_kernels();
template PackedLinearKernels<double> packed_linear_kernels();
template PackedLinearKernels<BFloat16Pair> packed_linear_kernels();

}  // namespace ecg::cpu::ECG_ISA

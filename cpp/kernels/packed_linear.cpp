// SPDX-License-Identifier: MIT
//
// Rows of features times packed weights on the CPU: chunks of rows, read where they lie or, if they
// are to be rounded, from a copy, stay in L2 while the weights' panels pass by.
#include "ecgcore/kernels/packed_linear.h"

#include "packed_tiles.h"
#if ECG_TILES
#include "packed_amx.h"
#endif

namespace ecg::cpu::ECG_ISA {
namespace {

constexpr int64_t kLongestSum = 128;
constexpr int64_t kChunkRows = 96;  // of x, read over and over from L2; a multiple of all tiles

// One column of features of a chunk of rows, of which `live` features exist.
template <int kVectors, class W, class T = RealOf<W>>
void column_of_rows(const PackedLinearArgs<W>& args, Column<W> weights, const T* offset,
                    int64_t live, Rows<const typename Terms<W>::X> x, int64_t rows, T* out) {
  constexpr int64_t kWidth = kVectors * kLanes<T>;
  alignas(64) T sums[kChunkRows * kWidth];
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

// Entries of a row that is copied. Where tiles take many at once it is an odd number of theirs, or
// rows one below the other would share few places in the caches.
template <class W>
int64_t copied_steps(int64_t inner) {
  constexpr int64_t kAtOnce = Terms<W>::kStepsAtOnce;
  const int64_t steps = steps_of<W>(inner);
  return kAtOnce == 1 ? steps : ((steps + kAtOnce - 1) / kAtOnce | 1) * kAtOnce;
}

// Rows of x as the tiles read them.
template <class W>
Rows<const typename Terms<W>::X> rows_of(const RealOf<W>* x, int64_t x_row, int64_t rows,
                                         int64_t inner, void* scratch) {
  if constexpr (!Terms<W>::kCopiesRows) {
    return {x, x_row};
  } else {
    const int64_t steps = steps_of<W>(inner), copied = copied_steps<W>(inner);
    auto* const copies = static_cast<typename Terms<W>::X*>(scratch);
    for (int64_t row = 0; row < rows; ++row) {
      round_row<W>(x + row * x_row, inner, copies + row * copied);
      for (int64_t k = steps; k < copied; ++k) copies[row * copied + k] = {};
    }
    return {copies, copied};
  }
}

template <class W>
int64_t scratch(int64_t inner) {
  using X = typename Terms<W>::X;
  return Terms<W>::kCopiesRows
             ? kChunkRows * copied_steps<W>(inner) * static_cast<int64_t>(sizeof(X))
             : 0;
}

// Rows of one sample, at most kChunkRows.
template <class W>
void chunk_of(const PackedLinearArgs<W>& args, void* scratch, int64_t b, int64_t row, int64_t rows,
              int64_t panel_begin, int64_t panel_end) {
  using T = RealOf<W>;
  const auto x = rows_of<W>(args.x + b * args.x_batch + row * args.x_row, args.x_row, rows,
                            args.inner, scratch);
  T* out = args.out + b * args.out_batch + row * args.out_row;
  const auto offset_of = [&](int64_t n) {
    return (args.bias == nullptr ? T(0) : args.bias[n]) +
           (args.shift == nullptr ? T(0) : args.shift[b * args.shift_batch + n]);
  };
  each_column(args.packed, steps_of<W>(args.inner), args.features, panel_begin, panel_end,
              offset_of, [&]<int kVectors>(int64_t n, const auto&... column) {
                column_of_rows<kVectors>(args, column..., x, rows, out + n);
              });
}

template <class W>
void forward(const PackedLinearArgs<W>& args, void* scratch, int64_t row_begin, int64_t row_end,
             int64_t panel_begin, int64_t panel_end) {
#if ECG_TILES
  const TileUnit tiles;
#endif
  each_chunk(row_begin, row_end, args.length, kChunkRows,
             [&](auto... rows) { chunk_of(args, scratch, rows..., panel_begin, panel_end); });
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

// SPDX-License-Identifier: MIT
//
// Convolutions of width 3 over rows of features on the CPU: a few tiles of neighbouring rows at a
// time are taken to Winograd's points, which stay in L2 while the weights' panels pass by; at each
// point it is a matrix product.
#include "ecgcore/kernels/packed_conv.h"

#include "lanes.h"
#include "packed_tiles.h"
#include "scratch.h"

namespace ecg::cpu::ECG_ISA {
namespace {

// Shorter than packed_linear's: the way back from the points multiplies their errors.
constexpr int64_t kLongestSum = 64;
constexpr int64_t kChunkTiles = 48;  // a multiple of all tiles of the products

// What a thread works in.
template <class W>
struct Work {
  using T = RealOf<W>;
  using X = typename Terms<W>::X;
  using Winograd = WinogradOf<W>;
  static constexpr int kPoints = Winograd::kPoints;

  X* inputs;  // [point][tile][step], as the products read them
  T* sums;    // [point][tile][feature of a column]
  T* rows;    // [point][channel], of one tile before they are rounded
  T* zeros;   // [channel], what lies behind the last row
  int64_t steps;

  Work(Scratch& scratch, int64_t channels)
      : inputs(scratch.take<X>(kPoints * kChunkTiles * steps_of<W>(channels))),
        sums(scratch.take<T>(kPoints * kChunkTiles * kTileVectors * kLanes<T>)),
        rows(scratch.take<T>(Terms<W>::kCopiesRows ? kPoints * channels : 0)),
        zeros(scratch.take<T>(channels)),
        steps(steps_of<W>(channels)) {}

  X* inputs_at(int point, int64_t tile) const {
    return inputs + (point * kChunkTiles + tile) * steps;
  }
};

// The tile that begins with row `row` of sample b, at all points.
template <class W>
void transform_inputs(const PackedConvArgs<W>& args, const Work<W>& work, int64_t b, int64_t row,
                      int64_t tile) {
  using T = RealOf<W>;
  constexpr int kPoints = Work<W>::kPoints;
  const T* from[kPoints];
  T* to[kPoints];
  for (int p = 0; p < kPoints; ++p) {
    const bool exists = row + p < args.length + 2;
    from[p] = exists ? args.x + b * args.x_batch + (row + p) * args.x_row : work.zeros;
    if constexpr (Terms<W>::kCopiesRows) {
      to[p] = work.rows + p * args.channels;
    } else {
      to[p] = work.inputs_at(p, tile);
    }
  }
  each_lanes<T>(args.channels, [&]<class R>(int64_t c) {
    R d[kPoints], t[kPoints];
    for (int p = 0; p < kPoints; ++p) d[p] = load_real<R>(from[p] + c);
    WinogradOf<W>::inputs(d, t);
    for (int p = 0; p < kPoints; ++p) store_real(to[p] + c, t[p]);
  });
  if constexpr (Terms<W>::kCopiesRows) {
    for (int p = 0; p < kPoints; ++p) {
      round_row<W>(to[p], args.channels, work.inputs_at(p, tile));
    }
  }
}

// One column of features of a chunk of tiles, of which `live` features exist; `rows` outputs, the
// first at `out`.
template <int kVectors, class W, class T = RealOf<W>>
void column_of_outputs(const PackedConvArgs<W>& args, const Work<W>& work, Column<W> weights,
                       const T* offset, int64_t live, int64_t tiles, int64_t rows, T* out) {
  constexpr int64_t kWidth = kVectors * kLanes<T>;
  constexpr int kPoints = Work<W>::kPoints, kOutputs = Work<W>::Winograd::kOutputs;
  using R = VectorOf<T>;
  for (int p = 0; p < kPoints; ++p) {
    T* sums = work.sums + p * kChunkTiles * kWidth;
    column_of<kVectors, kLongestSum>({work.inputs_at(p, 0), work.steps}, tiles, weights, work.steps,
                                     sums, {}, {sums, kWidth});
    weights.panel += packed_size<W>(args.features, args.channels);
  }
  for (int64_t row = 0; row < rows; row += kOutputs) {
    for (int j = 0; j < kVectors; ++j) {
      const T* sums = work.sums + row / kOutputs * kWidth + j * kLanes<T>;
      const int64_t there = live - j * kLanes<T>;
      R m[kPoints], y[kOutputs];
      for (int p = 0; p < kPoints; ++p) m[p] = R::load(sums + p * kChunkTiles * kWidth);
      Work<W>::Winograd::outputs(m, y);
      for (int i = 0; i < kOutputs && row + i < rows; ++i) {
        y[i] += R::load(offset + j * kLanes<T>);
        T* to = out + (row + i) * args.out_row + j * kLanes<T>;
        if (there >= kLanes<T>) {
          y[i].store(to);
        } else {
          for (int64_t n = 0; n < there; ++n) to[n] = y[i][static_cast<int>(n)];
        }
      }
    }
  }
}

// Tiles of one sample, at most kChunkTiles.
template <class W>
void chunk_of(const PackedConvArgs<W>& args, const Work<W>& work, int64_t b, int64_t tile,
              int64_t tiles, int64_t panel_begin, int64_t panel_end) {
  using T = RealOf<W>;
  constexpr int64_t kOutputs = WinogradOf<W>::kOutputs;
  const int64_t row = tile * kOutputs;
  for (int64_t t = 0; t < tiles; ++t) transform_inputs(args, work, b, row + t * kOutputs, t);
  const int64_t left = args.length - row, rows = tiles * kOutputs < left ? tiles * kOutputs : left;
  T* out = args.out + b * args.out_batch + row * args.out_row;
  const auto offset_of = [&](int64_t n) { return args.bias == nullptr ? T(0) : args.bias[n]; };
  each_column(args.packed, work.steps, args.features, panel_begin, panel_end, offset_of,
              [&]<int kVectors>(int64_t n, const auto&... column) {
                column_of_outputs<kVectors>(args, work, column..., tiles, rows, out + n);
              });
}

template <class W>
int64_t scratch(int64_t channels) {
  Scratch counted(nullptr);
  Work<W>(counted, channels);
  return counted.used();
}

template <class W>
void forward(const PackedConvArgs<W>& args, double* memory, int64_t tile_begin, int64_t tile_end,
             int64_t panel_begin, int64_t panel_end) {
  Scratch scratch(memory);
  const Work<W> work(scratch, args.channels);
  for (int64_t c = 0; c < args.channels; ++c) work.zeros[c] = 0;
  each_chunk(tile_begin, tile_end, tiles_of<W>(args.length), kChunkTiles,
             [&](auto... tiles) { chunk_of(args, work, tiles..., panel_begin, panel_end); });
}

}  // namespace

template <class W>
PackedConvKernels<W> packed_conv_kernels() {
  return {scratch<W>, forward<W>};
}
template PackedConvKernels<float> packed_conv_kernels();
template PackedConvKernels<double> packed_conv_kernels();
template PackedConvKernels<BFloat16Pair> packed_conv_kernels();

}  // namespace ecg::cpu::ECG_ISA

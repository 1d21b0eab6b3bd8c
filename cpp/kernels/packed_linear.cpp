// SPDX-License-Identifier: MIT
//
// Rows of features times packed weights on the CPU: tiles of rows and columns whose sums stay in
// registers (Goto and van de Geijn 2008, "Anatomy of High-Performance Matrix Multiplication", with
// only one of the two operands packed: rows of x are read where they lie, one number at a time).
#include "ecgcore/kernels/packed_linear.h"

#include "ecgcore/math/pack.h"

namespace ecg::cpu::ECG_ISA {
namespace {

constexpr int kTileVectors = 2;
// Rows of a full tile: their sums, a vector of weights for each column and one number of x fill the
// registers, 32 or 16. A lone column of vectors takes more rows, or its sums would wait for each
// other.
template <int kVectors>
constexpr int kTileRows = kVectorBytes == 64 ? 12 : 12 / kVectors;
constexpr int64_t kChunkRows = 96;  // of x, read over and over from L2; a multiple of 12
// Terms that go into one sum before it is added to the others: the panel's part stays in L1, and
// rounding errors grow with the length of a chain.
constexpr int64_t kTerms = 256;
constexpr int64_t kAhead = 16;  // rows of the panel that are fetched ahead

template <class T>
using VectorOf = Pack<T, kLanes<T>>;

// Where the weights of a column of a tile lie: vector j of step k at k * kPanelFeatures + j *
// apart.
template <class T>
struct Weights {
  // A panel holds one vector of AVX-512 floats a step, else several.
  static constexpr bool kOnePanel = kPanelFeatures > kLanes<T>;

  const T* panel;
  int64_t panel_size;

  ECG_HD int64_t apart() const { return kOnePanel ? kLanes<T> : panel_size; }
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
template <int kRows, int kVectors, class T>
void tile(const T* ECG_RESTRICT x, int64_t x_row, Weights<T> weights, int64_t terms,
          Finish<T> finish, Rows<T> out) {
  using R = VectorOf<T>;
  R sum[kRows][kVectors];
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kVectors; ++j) sum[i][j] = R(0);
  }
  const T* panel = weights.panel;
  const int64_t apart = weights.apart();
#pragma GCC unroll 4
  for (int64_t k = 0; k < terms; ++k) {
    R w[kVectors];
    for (int j = 0; j < kVectors; ++j) w[j] = R::load(panel + j * apart);
    __builtin_prefetch(panel + kAhead * kPanelFeatures);
    if (!Weights<T>::kOnePanel && kVectors > 1) {
      __builtin_prefetch(panel + apart + kAhead * kPanelFeatures);
    }
    panel += kPanelFeatures;
    for (int i = 0; i < kRows; ++i) {
      const R value(x[i * x_row + k]);
      for (int j = 0; j < kVectors; ++j) sum[i][j] += value * w[j];
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
template <int kRows, int kVectors, class T>
void tile_of(int64_t rows, const T* x, int64_t x_row, Weights<T> weights, int64_t terms,
             Finish<T> finish, Rows<T> out) {
  if constexpr (kRows > 1) {
    if (rows < kRows) {
      return tile_of<kRows - 1, kVectors>(rows, x, x_row, weights, terms, finish, out);
    }
  }
  tile<kRows, kVectors>(x, x_row, weights, terms, finish, out);
}

// All sums of one column of a chunk of rows, of which `live` features exist.
template <int kVectors, class T>
void column_of(const PackedLinearArgs<T>& args, Weights<T> weights, const T* offset, int64_t live,
               const T* x, int64_t rows, T* out) {
  constexpr int64_t kRows = kTileRows<kVectors>, kWidth = kVectors * kLanes<T>;
  T sums[kChunkRows * kWidth];
  const int64_t parts = args.inner <= kTerms ? 1 : (args.inner + kTerms - 1) / kTerms;
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t k = part * args.inner / parts, terms = (part + 1) * args.inner / parts - k;
    const bool last = part == parts - 1, whole = live >= kWidth;
    for (int64_t row = 0; row < rows; row += kRows) {
      T* own = sums + row * kWidth;
      const Finish<T> finish{part == 0 ? nullptr : own, last ? offset : nullptr, args.relu,
                             last && whole && args.accumulate};
      tile_of<kRows, kVectors>(
          rows - row, x + row * args.x_row + k, args.x_row, weights, terms, finish,
          last && whole ? Rows<T>{out + row * args.out_row, args.out_row} : Rows<T>{own, kWidth});
    }
    weights.panel += terms * kPanelFeatures;
  }
  if (live >= kWidth) return;
  for (int64_t row = 0; row < rows; ++row, out += args.out_row) {
    const T* own = sums + row * kWidth;
    for (int64_t i = 0; i < live; ++i) out[i] = args.accumulate ? out[i] + own[i] : own[i];
  }
}

// Rows of one sample, at most kChunkRows.
template <class T>
void chunk_of(const PackedLinearArgs<T>& args, int64_t b, int64_t row, int64_t rows,
              int64_t panel_begin, int64_t panel_end) {
  constexpr int64_t kPanel = kPanelFeatures;
  const T* x = args.x + b * args.x_batch + row * args.x_row;
  T* out = args.out + b * args.out_batch + row * args.out_row;
  const int64_t end = panel_end * kPanel < args.features ? panel_end * kPanel : args.features;
  for (int64_t n = panel_begin * kPanel; n < end; n += kTileVectors * kLanes<T>) {
    const int64_t live = end - n;
    T offset[kTileVectors * kLanes<T>] = {};
    for (int64_t i = 0; i < kTileVectors * kLanes<T> && i < live; ++i) {
      offset[i] = (args.bias == nullptr ? T(0) : args.bias[n + i]) +
                  (args.shift == nullptr ? T(0) : args.shift[b * args.shift_batch + n + i]);
    }
    const Weights<T> weights{args.packed + n / kPanel * kPanel * args.inner + n % kPanel,
                             kPanel * args.inner};
    if (live > kLanes<T>) {
      column_of<2>(args, weights, offset, live, x, rows, out + n);
    } else {
      column_of<1>(args, weights, offset, live, x, rows, out + n);
    }
  }
}

template <class T>
void forward(const PackedLinearArgs<T>& args, int64_t row_begin, int64_t row_end,
             int64_t panel_begin, int64_t panel_end) {
  for (int64_t row = row_begin; row < row_end;) {
    const int64_t b = row / args.length, l = row % args.length;
    int64_t rows = args.length - l < row_end - row ? args.length - l : row_end - row;
    rows = rows < kChunkRows ? rows : kChunkRows;
    chunk_of(args, b, l, rows, panel_begin, panel_end);
    row += rows;
  }
}

}  // namespace

template <class T>
PackedLinearKernels<T> packed_linear_kernels() {
  return {forward<T>};
}
template PackedLinearKernels<float> packed_linear_kernels();
template PackedLinearKernels<double> packed_linear_kernels();

}  // namespace ecg::cpu::ECG_ISA

// SPDX-License-Identifier: MIT
//
// Rows of features times packed weights on the CPU: tiles of rows and columns whose sums stay in
// registers (Goto and van de Geijn 2008, "Anatomy of High-Performance Matrix Multiplication", with
// only one of the two operands packed: rows of x are read where they lie, one number at a time; if
// they are to be rounded, from a copy).
#include "ecgcore/kernels/packed_linear.h"

#include "packed_linear_terms.h"

namespace ecg::cpu::ECG_ISA {
namespace {

constexpr int kTileVectors = 2;
// Rows of a full tile: their sums, a vector of weights for each column and one number of x fill the
// registers, 32 or 16. A lone column of vectors takes more rows, or its sums would wait for each
// other.
template <class W, int kVectors>
constexpr int kTileRows = kVectorBytes == 64 ? 12 : (Terms<W>::kRegisters == 1 ? 12 : 8) / kVectors;
constexpr int64_t kChunkRows = 96;  // of x, read over and over from L2; a multiple of all tiles
// Steps of one sum before it is added to the others: the panel's part stays in L1, and rounding
// errors grow with the length of a chain.
constexpr int64_t kSteps = 256;
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

// All sums of one column of a chunk of rows, of which `live` features exist.
template <int kVectors, class W, class T = RealOf<W>>
void column_of(const PackedLinearArgs<W>& args, Column<W> weights, const T* offset, int64_t live,
               Rows<const typename Terms<W>::X> x, int64_t rows, T* out) {
  constexpr int64_t kRows = kTileRows<W, kVectors>, kWidth = kVectors * kLanes<T>;
  T sums[kChunkRows * kWidth];
  const int64_t all = steps_of<W>(args.inner);
  const int64_t parts = all <= kSteps ? 1 : (all + kSteps - 1) / kSteps;
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t k = part * all / parts, steps = (part + 1) * all / parts - k;
    const bool last = part == parts - 1, whole = live >= kWidth;
    for (int64_t row = 0; row < rows; row += kRows) {
      T* own = sums + row * kWidth;
      const Finish<T> finish{part == 0 ? nullptr : own, last ? offset : nullptr, args.relu,
                             last && whole && args.accumulate};
      tile_of<kRows, kVectors>(
          rows - row, {x.data + row * x.row + k, x.row}, weights, steps, finish,
          last && whole ? Rows<T>{out + row * args.out_row, args.out_row} : Rows<T>{own, kWidth});
    }
    weights.panel += steps * kPanelFeatures;
  }
  if (live >= kWidth) return;
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
    auto* ECG_RESTRICT to = copies;
    for (int64_t row = 0; row < rows; ++row, x += x_row, to += steps) {
      for (int64_t k = 0; k < inner / 2; ++k) to[k] = Terms<W>::round(x[2 * k], x[2 * k + 1]);
      if (inner % 2 == 1) to[steps - 1] = Terms<W>::round(x[inner - 1], 0);
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
      column_of<2>(args, weights, offset, live, x, rows, out + n);
    } else {
      column_of<1>(args, weights, offset, live, x, rows, out + n);
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

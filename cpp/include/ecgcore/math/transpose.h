// SPDX-License-Identifier: MIT
//
// W x W transposition in registers, and rows of memory read into lanes and back: element j of W
// rows becomes one Pack.
#pragma once

#include "ecgcore/math/half.h"
#include "ecgcore/math/pack.h"

ECG_MATH_BEGIN

// Pairs of rows interleave single elements within 128 bits, then (four-byte elements) pairs of
// elements, then whole blocks of 128 bits are exchanged: one instruction each on x86.
template <class T, int W>
struct Transpose {
  using V = typename Pack<T, W>::Vector;
  static constexpr int kBlock = 16 / static_cast<int>(sizeof(T));

  // Units of d elements, of the low or high half of each 128-bit block, from a and b in turn.
  template <int d, bool high, int... i>
  static ECG_HD V zip(V a, V b, Indices<i...>) {
    return __builtin_shufflevector(
        a, b,
        ((i / kBlock) * kBlock + (high ? kBlock / 2 : 0) + (i % kBlock) / (2 * d) * d + i % d +
         ((i % kBlock) / d % 2) * W)...);
  }
  // Blocks of d elements of the low (or high) half of each 2 d, from a then b.
  template <int d, bool high, int... i>
  static ECG_HD V swap(V a, V b, Indices<i...>) {
    return __builtin_shufflevector(a, b,
                                   ((i & d) == 0 ? (high ? i + d : i) : (high ? i : i - d) + W)...);
  }

  template <int d>
  static ECG_HD void exchange(V* rows) {
    if constexpr (d < W) {
      using I = typename MakeIndices<W>::type;
      for (int i = 0; i < W; ++i) {
        if ((i & d) == 0) {
          const V a = rows[i], b = rows[i + d];
          rows[i] = swap<d, false>(a, b, I{});
          rows[i + d] = swap<d, true>(a, b, I{});
        }
      }
      exchange<2 * d>(rows);
    }
  }

  static ECG_HD void run(V* rows) {
    using I = typename MakeIndices<W>::type;
    for (int i = 0; i < W; i += kBlock) {
      V* r = rows + i;
      if constexpr (kBlock == 2) {
        const V a = r[0], b = r[1];
        r[0] = zip<1, false>(a, b, I{});
        r[1] = zip<1, true>(a, b, I{});
      } else {
        const V a = zip<1, false>(r[0], r[1], I{}), b = zip<1, true>(r[0], r[1], I{});
        const V c = zip<1, false>(r[2], r[3], I{}), d = zip<1, true>(r[2], r[3], I{});
        r[0] = zip<2, false>(a, c, I{});
        r[1] = zip<2, true>(a, c, I{});
        r[2] = zip<2, false>(b, d, I{});
        r[3] = zip<2, true>(b, d, I{});
      }
    }
    exchange<kBlock>(rows);
  }
};

// x[j] = lane i: rows[i][j], for j < length. Rows beyond the last may repeat a pointer.
template <class T, int W, class E>
inline void load_lanes(const E* const (&rows)[W], int64_t length, Pack<T, W>* x) {
  using P = Pack<T, W>;
  typename P::Vector v[W];
  int64_t j = 0;
  for (; j + W <= length; j += W) {
    for (int i = 0; i < W; ++i) v[i] = load_as<P>(rows[i] + j).lanes;
    Transpose<T, W>::run(v);
    for (int i = 0; i < W; ++i) x[j + i].lanes = v[i];
  }
  for (; j < length; ++j) {
    for (int i = 0; i < W; ++i) x[j].lanes[i] = to_real<T>(rows[i][j]);
  }
}

// visit(j, re, im) for j < count: lane i holds the complex number rows[i][j].
template <class T, int W, class Visit>
inline void load_complex(const T* const (&rows)[W], int64_t count, const Visit& visit) {
  using P = Pack<T, W>;
  const auto block = [&visit](const auto& from, int64_t skip, int64_t first, int columns)
                         __attribute__((always_inline)) {
                           typename P::Vector part[2][W];
                           for (int i = 0; i < W; ++i) {
                             part[0][i] = P::load(from[i] + skip).lanes;
                             part[1][i] = P::load(from[i] + skip + W).lanes;
                           }
                           Transpose<T, W>::run(part[0]);
                           Transpose<T, W>::run(part[1]);
                           for (int j = 0; j < columns; ++j) {
                             const auto* pair = part[2 * j / W] + 2 * j % W;
                             visit(first + j, P(pair[0]), P(pair[1]));
                           }
                         };
  int64_t j = 0;
  for (; j + W <= count; j += W) block(rows, 2 * j, j, W);
  if (j < count) {
    T rest[W][2 * W] = {};
    for (int i = 0; i < W; ++i) {
      for (int64_t k = 2 * j; k < 2 * count; ++k) rest[i][k - 2 * j] = rows[i][k];
    }
    block(rest, 0, j, static_cast<int>(count - j));
  }
}

// The way back: rows[i][first + j] = lane i of re[j] + i im[j], for j < columns and i < count.
template <class T, int W>
inline void store_complex(T* const (&rows)[W], int count, int64_t first, int columns,
                          const typename Pack<T, W>::Vector (&re)[W],
                          const typename Pack<T, W>::Vector (&im)[W]) {
  using P = Pack<T, W>;
  typename P::Vector low[W], high[W];
  for (int j = 0; j < W / 2; ++j) {
    low[2 * j] = re[j];
    low[2 * j + 1] = im[j];
    high[2 * j] = re[j + W / 2];
    high[2 * j + 1] = im[j + W / 2];
  }
  Transpose<T, W>::run(low);
  Transpose<T, W>::run(high);
  for (int i = 0; i < count; ++i) {
    T* to = rows[i] + 2 * first;
    if (columns == W) {
      P(low[i]).store(to);
      P(high[i]).store(to + W);
    } else {
      T some[2 * W];
      P(low[i]).store(some);
      P(high[i]).store(some + W);
      for (int j = 0; j < 2 * columns; ++j) to[j] = some[j];
    }
  }
}

// rows[i][j] = lane i of at(j), for j < length and i < count.
template <class T, int W, class E, class At>
inline void store_lanes(E* const (&rows)[W], int count, int64_t length, const At& at) {
  using P = Pack<T, W>;
  typename P::Vector v[W];
  int64_t j = 0;
  for (; j + W <= length; j += W) {
    for (int i = 0; i < W; ++i) v[i] = at(j + i).lanes;
    Transpose<T, W>::run(v);
    if (count == W) {
      for (int i = 0; i < W; ++i) store_as(rows[i] + j, P(v[i]));
    } else {
      for (int i = 0; i < count; ++i) store_as(rows[i] + j, P(v[i]));
    }
  }
  for (; j < length; ++j) {
    const P value = at(j);
    for (int i = 0; i < count; ++i) rows[i][j] = from_real<E>(value[i]);
  }
}

ECG_MATH_END

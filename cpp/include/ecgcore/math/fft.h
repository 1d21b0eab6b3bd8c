// SPDX-License-Identifier: MIT
//
// Real Fourier transforms of even length n = 2^a m, many at once: one row per SIMD lane, so that no
// instruction moves data between lanes.
//
// Everything is a remainder of polynomials. x(z) = Σ_j x_j z^j at z = exp(-2πi k/n) is bin k of the
// transform, and
//   z^2h - 1 = (z^h - 1)(z^h + 1):       s_j = x_j + x_{j+h},  d_j = x_j - x_{j+h};
//   z^2N + 1 = (z^N - i)(z^N + i):       c_j = d_j + i d_{j+N}, real d: the other factor is
//   conjugate; z^rp - e^(2πi e) = Π_t (z^p - e^(2πi (e+t)/r)):   a transform of r points after
//   multiplying
//                                         piece m by e^(2πi e m/r), the same number for all of it.
// So a real row costs additions and one complex transform (a "part") each of n/4, n/8, ..., m
// points, and values come out in the order of the leaves, never reversed in place. Two real
// remainders of m points are left, modulo z^m - 1 and z^m + 1; the second, with z for -z, becomes
// another modulo z^m - 1 and both go through one complex transform as real and imaginary part (the
// "pair"). Nothing but the pair (1/8 of n = 2000) ever mixes two bins. The inverse takes the same
// steps backwards. Compared with two rows as one complex sequence this needs no partner row and
// works in shorter transforms: n/4 points and less.
//
// A convolution of two-sided kernels longer than its rows of L = n/2 samples needs neither padding
// nor a second half of the result: modulo z^L - 1 and z^L + 1 the padded row is the row itself, and
// the wanted half is the sum of the two.
#pragma once

#include "ecgcore/math/dft.h"
#include "ecgcore/math/fft_plan.h"
#include "ecgcore/math/pack.h"

ECG_MATH_BEGIN

// Blocks of a transform that fit together in the first-level cache are taken stage by stage, larger
// ones one after the other.
inline constexpr int64_t kFftBlockBytes = 20480;

template <int r, class R>
struct FftTwiddles {
  Complex<R> w[r > 1 ? r - 1 : 1];
  ECG_HD explicit FftTwiddles(const typename RealTraits<R>::Scalar* table) {
    for (int m = 0; m < r - 1; ++m) w[m] = {R(table[2 * m]), R(table[2 * m + 1])};
  }
  ECG_HD void split(Complex<R> (&x)[r]) const {
    for (int m = 1; m < r; ++m) x[m] = x[m] * w[m - 1];
    dft<r, 1>(x);
  }
  ECG_HD void join(Complex<R> (&x)[r]) const {
    dft<r, -1>(x);
    for (int m = 1; m < r; ++m) x[m] = x[m] * conj(w[m - 1]);
  }
};

// One stage over `blocks` blocks of r p values, in place.
template <int r, bool kInverse, class R, class T>
inline void fft_stage(Complex<R>* z, int64_t p, int64_t blocks, const T* table) {
  for (int64_t b = 0; b < blocks; ++b, z += r * p, table += 2 * (r - 1)) {
    const FftTwiddles<r, R> twiddles(table);
    for (int64_t j = 0; j < p; ++j) {
      Complex<R> x[r];
      for (int m = 0; m < r; ++m) x[m] = z[j + m * p];
      if constexpr (kInverse) {
        twiddles.join(x);
      } else {
        twiddles.split(x);
      }
      for (int m = 0; m < r; ++m) z[j + m * p] = x[m];
    }
  }
}

// The first stage of a part, from a real row whose halves are the real and imaginary parts.
template <int r, class R, class T>
inline void fft_first_stage(const R* row, Complex<R>* z, int64_t p, const T* table) {
  const FftTwiddles<r, R> twiddles(table);
  const R* other = row + r * p;
  for (int64_t j = 0; j < p; ++j) {
    Complex<R> x[r];
    for (int m = 0; m < r; ++m) x[m] = {row[j + m * p], other[j + m * p]};
    twiddles.split(x);
    for (int m = 0; m < r; ++m) z[j + m * p] = x[m];
  }
}

// The last stage, what is done to the values, and the first stage back. `visit.values<r>(i, x)`
// sees (and may replace) r values from place i of the plan's order on; without kForward it makes
// them, without kInverse nothing comes after it.
template <int r, class R, class T, class Visitor>
inline void fft_leaves(Complex<R>* z, int64_t blocks, const T* table, int64_t place,
                       Visitor& visit) {
  for (int64_t b = 0; b < blocks; ++b, z += r, place += r, table += 2 * (r - 1)) {
    const FftTwiddles<r, R> twiddles(table);
    Complex<R> x[r];
    if constexpr (Visitor::kForward) {
      for (int m = 0; m < r; ++m) x[m] = z[m];
      twiddles.split(x);
    }
    visit.template values<r>(place, x);
    if constexpr (Visitor::kInverse) {
      twiddles.join(x);
      for (int m = 0; m < r; ++m) z[m] = x[m];
    }
  }
}

#define ECG_FFT_SWITCH(radix, call) \
  switch (radix) {                  \
    case 2: {                       \
      constexpr int r = 2;          \
      call;                         \
      break;                        \
    }                               \
    case 3: {                       \
      constexpr int r = 3;          \
      call;                         \
      break;                        \
    }                               \
    case 4: {                       \
      constexpr int r = 4;          \
      call;                         \
      break;                        \
    }                               \
    case 5: {                       \
      constexpr int r = 5;          \
      call;                         \
      break;                        \
    }                               \
    case 7: {                       \
      constexpr int r = 7;          \
      call;                         \
      break;                        \
    }                               \
    case 8: {                       \
      constexpr int r = 8;          \
      call;                         \
      break;                        \
    }                               \
  }

// Blocks [block, block + count) of a stage, `size` values each, through to the leaves and back.
// z points at the part's first value.
template <class R, class T, class Visitor>
void fft_blocks(const FftPart<T>& part, int stage, int64_t block, int64_t count, int64_t size,
                Complex<R>* z, Visitor& visit) {
  const int radix = part.radix[stage];
  const T* table = part.twiddles[stage] + 2 * (radix - 1) * block;
  Complex<R>* here = z + block * size;
  if (stage + 1 == part.stages) {
    ECG_FFT_SWITCH(radix, (fft_leaves<r, R>(here, count, table, part.first + block * size, visit)));
    return;
  }
  if (count > 1 && count * size * static_cast<int64_t>(sizeof(Complex<R>)) > kFftBlockBytes) {
    for (int64_t b = block; b < block + count; ++b) {
      fft_blocks(part, stage, b, 1, size, z, visit);
    }
    return;
  }
  const int64_t p = size / radix;
  if constexpr (Visitor::kForward) {
    ECG_FFT_SWITCH(radix, (fft_stage<r, false>(here, p, count, table)));
  }
  fft_blocks(part, stage + 1, block * radix, count * radix, p, z, visit);
  if constexpr (Visitor::kInverse) {
    ECG_FFT_SWITCH(radix, (fft_stage<r, true>(here, p, count, table)));
  }
}

// A whole part whose values are in z already, or made by the visitor.
template <class R, class T, class Visitor>
void fft_part(const FftPart<T>& part, Complex<R>* z, Visitor& visit) {
  if (part.stages == 0) {
    const T none = T(0);
    fft_leaves<1, R>(z, 1, &none, part.first, visit);
  } else {
    fft_blocks(part, 0, 0, 1, part.points, z, visit);
  }
}

// The same from a real row: c_j = row_j + i row_{j + points}.
template <class R, class T, class Visitor>
void fft_part_of_row(const FftPart<T>& part, const R* row, Complex<R>* z, Visitor& visit) {
  if (part.stages < 2) {
    for (int64_t j = 0; j < part.points; ++j) z[j] = {row[j], row[j + part.points]};
    fft_part(part, z, visit);
    return;
  }
  const int radix = part.radix[0];
  const int64_t p = part.points / radix;
  ECG_FFT_SWITCH(radix, (fft_first_stage<r>(row, z, p, part.twiddles[0])));
  fft_blocks(part, 1, 0, radix, p, z, visit);
  if constexpr (Visitor::kInverse) {
    ECG_FFT_SWITCH(radix, (fft_stage<r, true>(z, p, 1, part.twiddles[0])));
  }
}

// Keeps the values where they are: a transform that goes only forward.
template <class R>
struct FftKeep {
  static constexpr bool kForward = true, kInverse = false;
  Complex<R>* z;  // the plan's first value
  template <int r>
  ECG_HD void values(int64_t place, Complex<R> (&x)[r]) const {
    for (int m = 0; m < r; ++m) z[place + m] = x[m];
  }
  ECG_HD void pair(int64_t, Complex<R>&, Complex<R>&) const {}
};

// The pair: its transform from values already in z, its bins visited two by two, and back.
// `visit.pair(q, a, b)` sees the values q and m - q; for q = 0 they are the same number.
template <class R, class T, class Visitor>
void fft_pair(const FftPlan<T>& plan, Complex<R>* z, Visitor& visit) {
  const FftPart<T>& part = plan.part[plan.parts - 1];
  Complex<R>* values = z + part.first;
  if constexpr (Visitor::kForward) {
    FftKeep<R> keep{z};
    if (part.stages > 0) fft_part(part, values, keep);
  }
  for (int64_t q = 0; q < plan.pair_count(); ++q) {
    visit.pair(q, values[plan.pairs[2 * q]], values[plan.pairs[2 * q + 1]]);
  }
  if constexpr (Visitor::kInverse) {
    int64_t blocks = part.points, p = 1;
    for (int s = part.stages - 1; s >= 0; --s) {
      blocks /= part.radix[s];
      ECG_FFT_SWITCH(part.radix[s], (fft_stage<r, true>(values, p, blocks, part.twiddles[s])));
      p *= part.radix[s];
    }
  }
}

// Rows of `size` reals (size = n, or n/2 for rows whose second half is zero) through all parts of
// the plan, visited, and, if Visitor::kInverse, back; fft_join then fetches the result. x, of the
// size of the row, is overwritten and may be the row itself; z has room for n/2 values.
template <class R, class T, class Visitor>
void fft_split(const FftPlan<T>& plan, int64_t size, const R* row, R* x, Complex<R>* z,
               Visitor& visit) {
  const int64_t m = plan.odd;
  Complex<R>* pair = z + plan.part[plan.parts - 1].first;
  int next = 0;
  // Modulo z^size + 1 such a row is itself.
  if (size < plan.n && size > m) {
    fft_part_of_row(plan.part[0], row, z, visit);
    next = 1;
  }
  if (size == m) {
    for (int64_t j = 0; j < m; ++j) pair[j] = {row[j], j % 2 == 0 ? row[j] : -row[j]};
  }
  for (; size > m; size /= 2) {
    const int64_t h = size / 2;
    for (int64_t j = 0; j < h; ++j) {
      const R low = row[j], high = row[j + h];
      x[j] = low + high;
      x[j + h] = low - high;
    }
    row = x;
    if (h > m) {
      const FftPart<T>& part = plan.part[next++];
      fft_part_of_row(part, x + h, z + part.first, visit);
    } else {
      for (int64_t j = 0; j < m; ++j) pair[j] = {x[j], j % 2 == 0 ? x[j + m] : -x[j + m]};
    }
  }
  fft_pair(plan, z, visit);
}

// Values made by a visitor without kForward, transformed back.
template <class R, class T, class Visitor>
void fft_from_values(const FftPlan<T>& plan, Complex<R>* z, Visitor& visit) {
  for (int i = 0; i + 1 < plan.parts; ++i) {
    fft_part(plan.part[i], z + plan.part[i].first, visit);
  }
  fft_pair(plan, z, visit);
}

// From the parts in z, transformed back, to x modulo z^size - 1; for size = n that is the row. For
// size = n/2 only part 0 is left out: a row of n/2 samples is x plus its values. Not divided by
// anything: the single parts' values come out n/2 times, the pair's n times too large.
template <class R, class T>
void fft_join(const FftPlan<T>& plan, int64_t size, R* x, const Complex<R>* z) {
  const int64_t m = plan.odd;
  int next = plan.parts - 1;
  const Complex<R>* pair = z + plan.part[next].first;
  for (int64_t j = 0; j < m; ++j) {
    const R second = j % 2 == 0 ? pair[j].im : -pair[j].im;
    x[j] = pair[j].re + second;
    if (size > m) x[j + m] = pair[j].re - second;
  }
  for (int64_t h = 2 * m; h < size; h *= 2) {
    const FftPart<T>& part = plan.part[--next];
    const Complex<R>* d = z + part.first;
    const int64_t quarter = part.points;
    for (int64_t j = 0; j < quarter; ++j) {
      const R low = x[j], high = x[j + quarter];
      x[j] = low + d[j].re;
      x[j + h] = low - d[j].re;
      x[j + quarter] = high + d[j].im;
      x[j + h + quarter] = high - d[j].im;
    }
  }
}

// Visitors between the values and the half spectrum in the order of FftPlan::places:
// bins[places[k]] is bin k, or its conjugate. For an inverse transform the imaginary parts of bins
// 0 and n/2 are ignored, and fft_join leaves n/2 times the row.
template <class R>
struct FftToBins {
  static constexpr bool kForward = true, kInverse = false;
  Complex<R>* bins;
  int64_t single_bins;

  template <int r>
  ECG_HD void values(int64_t place, Complex<R> (&x)[r]) const {
    for (int m = 0; m < r; ++m) bins[place + m] = x[m];
  }
  ECG_HD void pair(int64_t q, Complex<R>& a, Complex<R>& b) const {
    // a = A + iB, b = conj(A) + i conj(B)
    const R half(0.5);
    bins[single_bins + 2 * q] = half * (a + conj(b));
    bins[single_bins + 2 * q + 1] = half * turn<-1>(a - conj(b));
  }
};
template <class R>
struct FftFromBins {
  static constexpr bool kForward = false, kInverse = true;
  const Complex<R>* bins;
  int64_t single_bins;

  template <int r>
  ECG_HD void values(int64_t place, Complex<R> (&x)[r]) const {
    for (int m = 0; m < r; ++m) x[m] = bins[place + m];
  }
  ECG_HD void pair(int64_t q, Complex<R>& a, Complex<R>& b) const {
    const R half(0.5);
    Complex<R> first = half * bins[single_bins + 2 * q];
    Complex<R> second = half * bins[single_bins + 2 * q + 1];
    if (q == 0) first.im = second.im = R(0);
    a = first + turn<1>(second);
    b = conj(first) + turn<1>(conj(second));
  }
};

ECG_MATH_END

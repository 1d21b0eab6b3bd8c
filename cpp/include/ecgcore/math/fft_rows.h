// SPDX-License-Identifier: MIT
//
// Between rows of memory, one a lane, and the transforms of fft.h.
#pragma once

#include "ecgcore/math/complex.h"
#include "ecgcore/math/fft_plan.h"
#include "ecgcore/math/transpose.h"

ECG_MATH_BEGIN

// W rows of `stride` elements from row `first` of `base` on. Beyond the last of `rows` rows they
// repeat it.
template <class E, int W>
struct LaneRows {
  E* row[W];
  int count;

  LaneRows(E* base, int64_t first, int64_t rows, int64_t stride) {
    count = static_cast<int>(rows - first < W ? rows - first : W);
    for (int i = 0; i < W; ++i) row[i] = base + (first + (i < count ? i : count - 1)) * stride;
  }
};

// Rows of `count` bins, times `scale`, to `bins` in the order of the plan, and back. Bin k of a row
// is bin k * step of the plan.
template <class T, int W>
inline void fft_load_bins(const FftPlan<T>& plan, const LaneRows<const T, W>& rows, int64_t count,
                          int64_t step, double scale, Complex<Pack<T, W>>* bins) {
  using R = Pack<T, W>;
  const R factor(scale);
  const int32_t* places = plan.places;
  load_complex<T, W>(rows.row, count, [=](int64_t k, R re, R im) {
    const int64_t place = places[k * step];
    const bool conjugate = place < 0;
    re = factor * re;
    im = (conjugate ? -factor : factor) * im;
    bins[conjugate ? -1 - place : place] = {re, im};
  });
}
// On the way back bins that are their own conjugates, 0 and n/2, take half the scale: the adjoint
// of an inverse transform, which sees any other bin and its conjugate.
template <class T, int W>
inline void fft_store_adjoint_bins(const FftPlan<T>& plan, const Complex<Pack<T, W>>* bins,
                                   int64_t count, int64_t step, double scale,
                                   const LaneRows<T, W>& rows) {
  using R = Pack<T, W>;
  typename R::Vector re[W] = {}, im[W] = {};
  for (int64_t k0 = 0; k0 < count; k0 += W) {
    const int columns = static_cast<int>(count - k0 < W ? count - k0 : W);
    for (int i = 0; i < columns; ++i) {
      const int64_t k = (k0 + i) * step;
      const int64_t place = plan.places[k] >= 0 ? plan.places[k] : -1 - plan.places[k];
      const double here = k == 0 || k == plan.half() ? 0.5 * scale : scale;
      re[i] = (R(here) * bins[place].re).lanes;
      im[i] = (R(plan.places[k] >= 0 ? here : -here) * bins[place].im).lanes;
    }
    store_complex<T, W>(rows.row, rows.count, k0, columns, re, im);
  }
}

ECG_MATH_END

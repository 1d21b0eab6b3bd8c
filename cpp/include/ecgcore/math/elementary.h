// SPDX-License-Identifier: MIT
//
// abs, exp, tanh and erf for every real-like R. One float formula serves SIMD lanes; scalars (one
// CUDA thread, or a host loop) and double precision go to the C library.
#pragma once

#include <cmath>

#include "ecgcore/math/pack.h"

ECG_MATH_BEGIN

#if !defined(__CUDACC__)  // device code has no vector types
// Integers of the width of T, to look at the bits of a Pack<T, W>.
template <class T, int W>
struct PackBits;
template <int W>
struct PackBits<float, W> {
  typedef int32_t Vector __attribute__((vector_size(W * 4)));
  static constexpr int32_t kAllButSign = 0x7fffffff;
};
template <int W>
struct PackBits<double, W> {
  typedef int64_t Vector __attribute__((vector_size(W * 8)));
  static constexpr int64_t kAllButSign = 0x7fffffffffffffff;
};
#endif

ECG_HD float abs(float x) { return ::fabsf(x); }
ECG_HD double abs(double x) { return ::fabs(x); }
#if !defined(__CUDACC__)
template <class T, int W>
ECG_HD Pack<T, W> abs(Pack<T, W> x) {
  using Bits = PackBits<T, W>;
  using Vector = typename Pack<T, W>::Vector;
  return Pack<T, W>((Vector)((typename Bits::Vector)x.lanes & Bits::kAllButSign));
}

// |x| with the sign of y
template <class T, int W>
ECG_HD Pack<T, W> copysign(Pack<T, W> x, Pack<T, W> y) {
  using Bits = PackBits<T, W>;
  using Vector = typename Pack<T, W>::Vector;
  using Integers = typename Bits::Vector;
  return Pack<T, W>(
      (Vector)(((Integers)x.lanes & Bits::kAllButSign) | ((Integers)y.lanes & ~Bits::kAllButSign)));
}
#endif

// Σ_i c[i] t^i by Horner's rule.
template <int kCount, class R>
ECG_HD R polynomial(const double (&c)[kCount], R t) {
  R sum = R(c[kCount - 1]);
  for (int i = kCount - 2; i >= 0; --i) sum = sum * t + R(c[i]);
  return sum;
}

#if !defined(__CUDACC__)
// e^x for x <= 0, relative error 1.2e-7, results below 1.2e-38 rounded to 0 or to the least normal
// number: e^x = 2^k e^f with k = round(x / ln 2), |f| <= ln(2)/2, Taylor's polynomial for e^f.
template <int W>
ECG_HD Pack<float, W> exp_of_negative(Pack<float, W> x) {
  using R = Pack<float, W>;
  using Bits = typename PackBits<float, W>::Vector;
  x = select(x < R(-87.3), R(-87.3), x);
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the sum.
  const R shifted = x * R(1.44269504088896341) + R(12582912.0);
  const R k = shifted - R(12582912.0);
  const R f = (x - k * R(0.693145751953125)) - k * R(1.42860682030941723e-6);
  constexpr double kTaylor[] = {1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720};
  const R mantissa = polynomial(kTaylor, f);
  return R((typename R::Vector)((Bits)mantissa.lanes + ((Bits)shifted.lanes << 23)));
}
// The same in double: relative error 2e-16, results below 3e-308 rounded to that.
template <int W>
ECG_HD Pack<double, W> exp_of_negative(Pack<double, W> x) {
  using R = Pack<double, W>;
  using Bits = typename PackBits<double, W>::Vector;
  x = select(x < R(-708), R(-708), x);
  const R shifted = x * R(1.44269504088896341) + R(6755399441055744.0);  // 1.5 * 2^52
  const R k = shifted - R(6755399441055744.0);
  const R f = (x - k * R(6.93147180369123816490e-01)) - k * R(1.90821492927058770002e-10);
  constexpr double kTaylor[] = {1.0,
                                1.0,
                                1.0 / 2,
                                1.0 / 6,
                                1.0 / 24,
                                1.0 / 120,
                                1.0 / 720,
                                1.0 / 5040,
                                1.0 / 40320,
                                1.0 / 362880,
                                1.0 / 3628800,
                                1.0 / 39916800,
                                1.0 / 479001600,
                                1.0 / 6227020800};
  const R mantissa = polynomial(kTaylor, f);
  return R((typename R::Vector)((Bits)mantissa.lanes + ((Bits)shifted.lanes << 52)));
}
#endif

ECG_HD float exp_of_negative(float x) { return ::expf(x); }
ECG_HD double exp_of_negative(double x) { return ::exp(x); }

ECG_HD float tanh(float x) { return ::tanhf(x); }
ECG_HD double tanh(double x) { return ::tanh(x); }

#if !defined(__CUDACC__)
// From e^(−2|x|), but for small x, where that cancels, x + x³ P(x²), relative error 4e-9 before
// rounding (weighted least squares, reweighted towards the largest error).
template <int W>
ECG_HD Pack<float, W> tanh(Pack<float, W> x) {
  using R = Pack<float, W>;
  constexpr double kP[] = {-0.3333328392437449, 0.13331491264111703, -0.053743496254639075,
                           0.020650581503334632, -0.005717038701315444};
  constexpr double kSmall = 0.625;
  const R magnitude = abs(x), t = x * x;
  const R e = exp_of_negative(R(-2) * magnitude);
  const R large = copysign((R(1) - e) / (R(1) + e), x);
  return select(magnitude > R(kSmall), large, x + x * t * polynomial(kP, t));
}
template <int W>
ECG_HD Pack<double, W> tanh(Pack<double, W> x) {
  for (int i = 0; i < W; ++i) x.lanes[i] = ::tanh(x.lanes[i]);
  return x;
}
#endif

// erf(x/√2)/x on |x| <= 5.3 as P(x²)/Q(x²), relative error 9.4e-9 before rounding (weighted least
// squares, reweighted towards the largest error). Beyond 5.3 erf is ±1 to half a unit in the last
// place, and the callers set it so.
inline constexpr double kErfSaturation = 5.3;
template <class R>
ECG_HD R erf_ratio(R t) {
  constexpr double kP[] = {0.7978845533106983,    0.06528364623652194,    0.009219542019670658,
                           0.0003145863673574292, 1.2710012684301411e-05, 4.8538422838042126e-08};
  constexpr double kQ[] = {1.0,
                           0.24848743056467776,
                           0.027969959879095705,
                           0.00181951972757137,
                           7.035575846470689e-05,
                           1.2417248515958684e-06};
  return polynomial(kP, t) / polynomial(kQ, t);
}

#if !defined(__CUDACC__)
// erf(x/√2)
template <int W>
ECG_HD Pack<float, W> erf_over_sqrt2(Pack<float, W> x) {
  using R = Pack<float, W>;
  return select(abs(x) > R(kErfSaturation), copysign(R(1), x), x * erf_ratio(x * x));
}
template <int W>
ECG_HD Pack<double, W> erf_over_sqrt2(Pack<double, W> x) {
  for (int i = 0; i < W; ++i) x.lanes[i] = ::erf(x.lanes[i] * 0.70710678118654752440);
  return x;
}
#endif

ECG_HD float erf_over_sqrt2(float x) { return ::erff(x * 0.70710678f); }
ECG_HD double erf_over_sqrt2(double x) { return ::erf(x * 0.70710678118654752440); }

#if !defined(__CUDACC__)
// x erf(x/√2), which is even: one blend settles the saturated range.
template <int W>
ECG_HD Pack<float, W> x_erf_over_sqrt2(Pack<float, W> x) {
  using R = Pack<float, W>;
  const R t = x * x, magnitude = abs(x);
  return select(magnitude > R(kErfSaturation), magnitude, t * erf_ratio(t));
}
#endif

template <class R>
ECG_HD R x_erf_over_sqrt2(R x) {
  return x * erf_over_sqrt2(x);
}

ECG_MATH_END

// SPDX-License-Identifier: MIT
//
// Complex exponentials in double precision and what is made of them, (e^z - 1)/z and 2 artanh(z/2),
// for one number or for lanes of them.
#pragma once

#include "ecgcore/math/complex.h"
#include "ecgcore/math/elementary.h"

ECG_MATH_BEGIN

template <class R>
struct SineCosine {
  R sin, cos;
};

ECG_HD SineCosine<double> sine_cosine(double x) { return {::sin(x), ::cos(x)}; }

// Of 2 pi x, |x| <= 1/2.
ECG_HD SineCosine<float> sine_cosine_of_turns(float x) {
#if defined(__CUDA_ARCH__)
  SineCosine<float> out;
  ::sincospif(x + x, &out.sin, &out.cos);
  return out;
#else
  const double angle = 6.28318530717958647693 * static_cast<double>(x);
  return {static_cast<float>(::sin(angle)), static_cast<float>(::cos(angle))};
#endif
}

#if !defined(__CUDACC__)
// Absolute error 2e-16. x minus the nearest multiple of pi/2, which is carried in three pieces of
// 33 bits so that their products with up to 20 bits are exact, then Taylor's polynomials. Larger
// arguments go to the C library.
template <int W>
ECG_HD SineCosine<Pack<double, W>> sine_cosine(Pack<double, W> x) {
  using R = Pack<double, W>;
  using V = typename R::Vector;
  using Bits = typename PackBits<double, W>::Vector;
  const R magnitude = abs(x);
  bool large = false;
  for (int i = 0; i < W; ++i) large |= magnitude[i] > 1e6;
  if (large) {
    SineCosine<R> out{x, x};
    for (int i = 0; i < W; ++i) {
      out.sin.lanes[i] = ::sin(x.lanes[i]);
      out.cos.lanes[i] = ::cos(x.lanes[i]);
    }
    return out;
  }
  const R shifted = x * R(0.63661977236758134308) + R(6755399441055744.0);  // 1.5 * 2^52
  const Bits quadrant = (Bits)shifted.lanes;
  const R q = shifted - R(6755399441055744.0);
  const R r = ((x - q * R(1.57079632673412561417e+00)) - q * R(6.07710050630396597660e-11)) -
              q * R(2.02226624879595063154e-21);
  constexpr double kSine[] = {
      1.0,          -1.0 / 6,        1.0 / 120,        -1.0 / 5040,
      1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800, -1.0 / 1307674368000};
  constexpr double kCosine[] = {1.0,
                                -1.0 / 2,
                                1.0 / 24,
                                -1.0 / 720,
                                1.0 / 40320,
                                -1.0 / 3628800,
                                1.0 / 479001600,
                                -1.0 / 87178291200,
                                1.0 / 20922789888000};
  const R t = r * r;
  const R sine = r * polynomial(kSine, t), cosine = polynomial(kCosine, t);
  const auto odd = (quadrant & 1) != 0;
  const V a = select(odd, cosine, sine).lanes, b = select(odd, sine, cosine).lanes;
  return {R((V)((Bits)a ^ ((quadrant & 2) << 62))), R((V)((Bits)b ^ (((quadrant + 1) & 2) << 62)))};
}
#endif

// e^z
template <class R>
ECG_HD Complex<R> complex_exp(Complex<R> z) {
  const R falling = exp_of_negative(-abs(z.re));
  const R size = select(z.re > R(0), R(1) / falling, falling);
  const SineCosine<R> turn = sine_cosine(z.im);
  return {size * turn.cos, size * turn.sin};
}

// a/b for |b| between 1e-150 and 1e150.
template <class R>
ECG_HD Complex<R> divide(Complex<R> a, Complex<R> b) {
  return a * reciprocal(b);
}

template <class Mask, class R>
ECG_HD Complex<R> select(Mask condition, Complex<R> a, Complex<R> b) {
  return {select(condition, a.re, b.re), select(condition, a.im, b.im)};
}

// phi = (e^z - 1)/z and its derivative, given e^z. Close to 0, where the difference cancels, by
// their series.
template <class R>
struct ExpRatio {
  Complex<R> value, slope;
};
template <class R>
ECG_HD ExpRatio<R> exp_ratio(Complex<R> z, Complex<R> exp_z) {
  // phi = sum z^k/(k + 1)!, phi' = sum (k + 1) z^k/(k + 2)!, |z| < 1/2
  constexpr int kTerms = 14;
  constexpr double kInverseFactorial[] = {1.0,
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
                                          1.0 / 6227020800,
                                          1.0 / 87178291200,
                                          1.0 / 1307674368000};
  const auto small = norm2(z) < R(0.25);
  const Complex<R> one{R(1), R(0)}, near = select(small, z, Complex<R>{R(0), R(0)});
  Complex<R> value{R(0), R(0)}, slope{R(0), R(0)};
  for (int k = kTerms - 1; k >= 0; --k) {
    value = value * near + Complex<R>{R(kInverseFactorial[k + 1]), R(0)};
    slope = slope * near + Complex<R>{R((k + 1) * kInverseFactorial[k + 2]), R(0)};
  }
  const Complex<R> far = reciprocal(select(small, one, z));
  const Complex<R> far_value = (exp_z - one) * far;
  return {select(small, value, far_value), select(small, slope, (exp_z - far_value) * far)};
}

// 2 artanh(z/2) = log((1 + z/2)/(1 - z/2)), the principal value, without cancellation at 0.
ECG_HD Complex<double> twice_artanh_half(Complex<double> z) {
  const double a = z.re / 2, b = z.im / 2;
  const double below = (1 - a) * (1 - a) + b * b;
  return {0.5 * ::log1p(4 * a / below), ::atan2(2 * b, (1 - a) * (1 + a) - b * b)};
}
#if !defined(__CUDACC__)
template <int W>
ECG_HD Complex<Pack<double, W>> twice_artanh_half(Complex<Pack<double, W>> z) {
  for (int i = 0; i < W; ++i) {
    const Complex<double> one = twice_artanh_half(Complex<double>{z.re.lanes[i], z.im.lanes[i]});
    z.re.lanes[i] = one.re;
    z.im.lanes[i] = one.im;
  }
  return z;
}
#endif

ECG_MATH_END

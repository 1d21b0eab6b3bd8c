// SPDX-License-Identifier: MIT
//
// One term of the Cauchy sum  r(z) = Σ_n v_n/(z − w_n) [+ v̄_n/(z − w̄_n)]  and its adjoints, for any
// real-like R. Gradients follow torch's convention: g = ∂loss/∂Re r + i ∂loss/∂Im r.
//
// The pair is kept as two reciprocals. Over the common denominator z² − 2z Re w + |w|² one division
// would do, but close to a pole the difference cancels in float.
#pragma once

#include "ecgcore/math/complex.h"

ECG_MATH_BEGIN

// 1/(z − w) and 1/(z − w̄): everything below is made of these.
template <class R>
struct CauchyPair {
  Complex<R> a, b;
};

template <bool kPairs, class R>
ECG_HD CauchyPair<R> cauchy_pair(Complex<R> z, Complex<R> w) {
  if constexpr (kPairs) {
    return {reciprocal(z - w), reciprocal(z - conj(w))};
  } else {
    return {reciprocal(z - w), {R(0), R(0)}};
  }
}

// v a + v̄ b
template <bool kPairs, class R>
ECG_HD Complex<R> cauchy_term(Complex<R> v, CauchyPair<R> p) {
  if constexpr (kPairs) {
    return v * p.a + conj(v) * p.b;
  } else {
    return v * p.a;
  }
}

// dv += g ā + ḡ b
template <bool kPairs, class R>
ECG_HD Complex<R> cauchy_term_dv(Complex<R> g, CauchyPair<R> p) {
  if constexpr (kPairs) {
    return g * conj(p.a) + conj(g) * p.b;
  } else {
    return g * conj(p.a);
  }
}

// dw += g conj(v a²) + ḡ v̄ b²
template <bool kPairs, class R>
ECG_HD Complex<R> cauchy_term_dw(Complex<R> g, Complex<R> v, CauchyPair<R> p) {
  const Complex<R> first = g * conj(v * (p.a * p.a));
  if constexpr (kPairs) {
    return first + conj(g) * (conj(v) * (p.b * p.b));
  } else {
    return first;
  }
}

// dz += g conj(−v a² − v̄ b²)
template <bool kPairs, class R>
ECG_HD Complex<R> cauchy_term_dz(Complex<R> g, Complex<R> v, CauchyPair<R> p) {
  Complex<R> slope = v * (p.a * p.a);
  if constexpr (kPairs) slope += conj(v) * (p.b * p.b);
  return -(g * conj(slope));
}

ECG_MATH_END

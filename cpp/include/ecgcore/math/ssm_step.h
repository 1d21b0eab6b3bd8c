// SPDX-License-Identifier: MIT
//
// One sample through a discrete state space whose state matrix is I + diag(A) − Σ_r P_r Q_rᵀ on
// conjugate pairs, of which one mode each is kept:
//
//   s_r = 2 Re Σ_n Q_rn x_n,   x'_n = x_n + (A_n x_n − Σ_r P_rn s_r + B_n u),
//   y_c = 2 Re Σ_n C_cn x'_n.
//
// What is added to the state is small beside it where the step is, so that A, P and B rounded to
// float move the state's pace by 6e-8 of itself. A rounded I + diag(A) would be off by 6e-8 of the
// state in every sample, which adds up (docs/numerics.md).
//
// Adjoint, with cotangents h of x' and g of y (torch's convention, ∂loss/∂Re + i ∂loss/∂Im):
//
//   G = h + Σ_c 2 g_c C̄_c,   t_r = −Re Σ_n P̄_rn G_n,
//   dx = G + Ā G + Σ_r 2 t_r Q̄_r,   du = Re Σ_n B̄_n G_n,
//   dA = G x̄,   dB = u G,   dC_c = 2 g_c conj(x'),   dP_r = −s_r G,   dQ_r = 2 t_r x̄.
//
#pragma once

#include "ecgcore/math/complex.h"

ECG_MATH_BEGIN

// Z is Complex<R> on a CUDA thread, ComplexPack on SIMD lanes; the sums are made of real_of_product
// and real_of_inner.

// What a sample adds to the state, but for the low-rank terms: A x + B u.
template <class Z, class R>
ECG_HD Z ssm_increment(Z x, Z A, Z B, R u) {
  return A * x + u * B;
}

// What comes back through 2 Re(C x) with cotangent g: 2 g C̄ for x, 2 g x̄ for C. So do y, and, with
// t_r for g and Q_r for C, the low-rank sums.
template <class Z, class R>
ECG_HD Z ssm_output_adjoint(R g, Z C) {
  return (g + g) * conj(C);
}

ECG_MATH_END

// SPDX-License-Identifier: MIT
//
// Correlations of width 3 with fewer products (Winograd 1980, "Arithmetic Complexity of
// Computations"; Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks"): of
// kOutputs neighbours
//   y_i = Σ_j g_j d_{i+j},  j = 0, 1, 2
// from kPoints = kOutputs + 2 products. Inputs and weights stand for polynomials; their values at
// kPoints - 1 numbers p and at infinity are multiplied, and outputs() goes back. The weights'
// values are (g_0 + p g_1 + p² g_2) / Π_{q≠p} (p - q), and g_2 at infinity, in the order of
// `inputs`.
#pragma once

#include "ecgcore/math/config.h"

ECG_MATH_BEGIN

// At 0, 1, -1 and infinity.
struct Winograd2 {
  static constexpr int kOutputs = 2, kPoints = 4;

  template <class R>
  ECG_HD static void inputs(const R (&d)[kPoints], R (&t)[kPoints]) {
    t[0] = d[2] - d[0];
    t[1] = d[2] + d[1];
    t[2] = d[2] - d[1];
    t[3] = d[3] - d[1];
  }

  template <class R>
  ECG_HD static void outputs(const R (&m)[kPoints], R (&y)[kOutputs]) {
    y[0] = m[0] + (m[1] + m[2]);
    y[1] = (m[1] - m[2]) + m[3];
  }
};

// At 0, ±3/4, ±3/2 and infinity: errors grow with the spread of the points, and with these they are
// two thirds of those with the usual ±1, ±2 (measured; see docs/decisions). Every factor is exact
// in float.
struct Winograd4 {
  static constexpr int kOutputs = 4, kPoints = 6;

  template <class R>
  ECG_HD static void inputs(const R (&d)[kPoints], R (&t)[kPoints]) {
    const R near_even = d[4] - R(kFar * kFar) * d[2], far_even = d[4] - R(kNear * kNear) * d[2];
    const R near_odd = R(kNear) * (d[3] - R(kFar * kFar) * d[1]);
    const R far_odd = R(kFar) * (d[3] - R(kNear * kNear) * d[1]);
    t[0] = R(kProduct) * d[0] - R(kSum) * d[2] + d[4];
    t[1] = near_even + near_odd;
    t[2] = near_even - near_odd;
    t[3] = far_even + far_odd;
    t[4] = far_even - far_odd;
    t[5] = R(kProduct) * d[1] - R(kSum) * d[3] + d[5];
  }

  template <class R>
  ECG_HD static void outputs(const R (&m)[kPoints], R (&y)[kOutputs]) {
    const R near_even = m[1] + m[2], near_odd = R(kNear) * (m[1] - m[2]);
    const R far_even = m[3] + m[4], far_odd = R(kFar) * (m[3] - m[4]);
    y[0] = m[0] + near_even + far_even;
    y[1] = near_odd + far_odd;
    y[2] = R(kNear * kNear) * near_even + R(kFar * kFar) * far_even;
    y[3] = R(kNear * kNear) * near_odd + R(kFar * kFar) * far_odd + m[5];
  }

 private:
  static constexpr double kNear = 0.75, kFar = 1.5;
  static constexpr double kSum = kNear * kNear + kFar * kFar;
  static constexpr double kProduct = kNear * kNear * kFar * kFar;
};

ECG_MATH_END

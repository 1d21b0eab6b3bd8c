// SPDX-License-Identifier: MIT
//
// Batch normalisation: moments of a set of values, put together from those of its parts, and the
// normalised, scaled and shifted value with its adjoint.
#pragma once

#include <cmath>

#include "ecgcore/math/activation.h"

ECG_MATH_BEGIN

// Number of values, their mean, and m2 = Σ (x − mean)².
template <class R>
struct Moments {
  R count, mean, m2;
};

// Of the union of two sets (Chan, Golub, LeVeque 1983, "Algorithms for Computing the Sample
// Variance", equation 1.5): no large sums of squares, so nothing cancels. b is not empty.
template <class R>
ECG_HD Moments<R> merged(Moments<R> a, Moments<R> b) {
  const R count = a.count + b.count, share = b.count / count, distance = b.mean - a.mean;
  return {count, a.mean + distance * share, a.m2 + b.m2 + distance * distance * a.count * share};
}

// What running statistics are fed, and what normalises: mean, unbiased variance, and
// 1/√(biased variance + eps). One value alone has no unbiased variance: 0/0.
template <class R>
struct FeatureStatistics {
  R mean, unbiased, inverse_deviation;
};

template <class R>
ECG_HD FeatureStatistics<R> batch_statistics(Moments<R> moments, R eps) {
  if (moments.count == R(0)) return {R(0), R(0), R(1) / ::sqrt(eps)};
  return {moments.mean, moments.m2 / (moments.count - R(1)),
          R(1) / ::sqrt(moments.m2 / moments.count + eps)};
}

template <class R>
ECG_HD FeatureStatistics<R> running_statistics(R mean, R variance, R eps) {
  return {mean, variance, R(1) / ::sqrt(variance + eps)};
}

// One element of a row, whose numbers are the same for all of its elements: the statistics of its
// feature, scale and offset of its sample, and the activation.
template <class R>
struct NormalizedRow {
  R mean, inverse_deviation, gamma, beta, negative_slope;
  Activation activation;

  ECG_HD R normalized(R x) const { return (x - mean) * inverse_deviation; }
  ECG_HD R value(R x) const {
    return activate(activation, gamma * normalized(x) + beta, negative_slope);
  }
  // The gradient of what goes into the activation.
  ECG_HD R inner(R dy, R normalized_x) const {
    return dy * activation_slope(activation, gamma * normalized_x + beta, negative_slope);
  }
  // The gradient of x. In training the statistics depend on x too: with g the gradient of the
  // normalised value, dx = (g − mean(g) − x̂ mean(g x̂)) inverse_deviation, means over the feature.
  ECG_HD R dx(R inner_gradient, R normalized_x, R mean_g, R mean_gx) const {
    return (gamma * inner_gradient - mean_g - normalized_x * mean_gx) * inverse_deviation;
  }
};

ECG_MATH_END

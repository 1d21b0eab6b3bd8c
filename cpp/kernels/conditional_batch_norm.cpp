// SPDX-License-Identifier: MIT
//
// Conditional batch normalisation on the CPU.
#include "ecgcore/kernels/conditional_batch_norm.h"

#include "ecgcore/math/batch_norm.h"
#include "ecgcore/math/pack.h"

namespace ecg::cpu::ECG_ISA {
namespace {

constexpr int64_t kFeatures = 32;  // whose moments grow side by side, in the order of memory
constexpr int64_t kTerms = 64;     // values a lane adds up before its sum goes on in double

// How a row is cut into lanes. The last ones overlap those before, so that no lane is idle and none
// reads beyond the row; `fresh` marks what is new in them.
template <class R>
struct Cut {
  using T = typename RealTraits<R>::Scalar;
  static constexpr int64_t kWidth = RealTraits<R>::kWidth;

  explicit Cut(int64_t length) : rest(length % kWidth) {
    T part[kWidth];
    for (int64_t i = 0; i < kWidth; ++i) part[i] = static_cast<T>(i >= kWidth - rest);
    fresh = load_real<R>(part);
  }
  // body(i, whole) for the steps of [0, count), count = length modulo the width.
  template <class Body>
  ECG_HD void each(int64_t count, const Body& body) const {
    int64_t i = 0;
    for (; i + kWidth <= count; i += kWidth) body(i, [](R x) { return x; });
    if (kWidth > 1 && i < count) {
      body(count - kWidth, [this](R x) { return select(fresh > R(0), x, R(0)); });
    }
  }

  int64_t rest;
  R fresh;
};

template <class T>
void put(const ConditionalBatchNormArgs<T>& args, int64_t feature, FeatureStatistics<double> s) {
  args.statistics[feature] = static_cast<T>(s.mean);
  args.statistics[args.features + feature] = static_cast<T>(s.unbiased);
  args.statistics[2 * args.features + feature] = static_cast<T>(s.inverse_deviation);
}

template <class T>
void put_running_statistics(const ConditionalBatchNormArgs<T>& args, int64_t begin, int64_t end) {
  for (int64_t f = begin; f < end; ++f) {
    put(args, f,
        running_statistics(static_cast<double>(args.running_mean[f]),
                           static_cast<double>(args.running_var[f]),
                           static_cast<double>(args.eps)));
  }
}

// The mean of a few values of a feature, from all over the batch: near enough to the others' that
// squares of distances from it do not cancel.
template <class T>
T mean_of_some(const ConditionalBatchNormArgs<T>& args, int64_t feature) {
  const int64_t samples = args.batch < 4 ? args.batch : 4;
  const int64_t values = args.length < 4 ? args.length : 4;
  T sum(0);
  for (int64_t k = 0; k < samples; ++k) {
    const int64_t row = k * args.batch / samples * args.features + feature;
    for (int64_t i = 0; i < values; ++i) sum += args.x[row * args.length + i];
  }
  return samples == 0 ? T(0) : sum / static_cast<T>(samples * values);
}

// Sums of distances and squared distances from a shift close to the mean, at most kTerms in a lane,
// become moments, which are put together in double.
template <class R, class T>
void put_batch_statistics(const ConditionalBatchNormArgs<T>& args, int64_t begin, int64_t end) {
  const Cut<R> cut(args.length);
  const int64_t piece = kTerms * Cut<R>::kWidth;
  const int64_t rows = args.length < piece ? piece / args.length : 1;
  Moments<double> moments[kFeatures];
  R left[kFeatures], squares[kFeatures];
  T shift[kFeatures];
  for (int64_t first = begin; first < end; first += kFeatures) {
    const int64_t features = end - first < kFeatures ? end - first : kFeatures;
    for (int64_t f = 0; f < features; ++f) {
      moments[f] = {0.0, 0.0, 0.0};
      shift[f] = mean_of_some(args, first + f);
    }
    for (int64_t b = 0; b < args.batch; b += rows) {
      const int64_t last = b + rows < args.batch ? b + rows : args.batch;
      for (int64_t i = 0; i < args.length; i += piece) {
        const int64_t count = args.length - i < piece ? args.length - i : piece;
        for (int64_t f = 0; f < features; ++f) left[f] = squares[f] = R(0);
        for (int64_t row = b; row < last; ++row) {
          const T* x = args.x + (row * args.features + first) * args.length + i;
          for (int64_t f = 0; f < features; ++f, x += args.length) {
            R sum = left[f], sum_of_squares = squares[f];
            cut.each(count, [&](int64_t j, const auto& fresh) {
              const R distance = fresh(load_real<R>(x + j) - R(shift[f]));
              sum += distance;
              sum_of_squares += distance * distance;
            });
            left[f] = sum;
            squares[f] = sum_of_squares;
          }
        }
        const double n = static_cast<double>((last - b) * count);
        for (int64_t f = 0; f < features; ++f) {
          const double rest = static_cast<double>(sum_lanes(left[f])) / n;
          moments[f] =
              merged(moments[f], {n, static_cast<double>(shift[f]) + rest,
                                  static_cast<double>(sum_lanes(squares[f])) - rest * rest * n});
          shift[f] = static_cast<T>(moments[f].mean);
        }
      }
    }
    for (int64_t f = 0; f < features; ++f) {
      put(args, first + f, batch_statistics(moments[f], static_cast<double>(args.eps)));
    }
  }
}

template <class T>
void statistics(const ConditionalBatchNormArgs<T>& args, int64_t begin, int64_t end) {
  if (args.running_mean != nullptr) return put_running_statistics(args, begin, end);
  if (args.length < kLanes<T>) return put_batch_statistics<T>(args, begin, end);
  put_batch_statistics<Pack<T, kLanes<T>>>(args, begin, end);
}

// The numbers of one row.
template <class R, class Args>
NormalizedRow<R> row_of(const Args& args, int64_t row, int64_t feature, Activation activation) {
  return {R(args.statistics[feature]), R(args.statistics[2 * args.features + feature]),
          R(args.gamma[row]),          R(args.beta[row]),
          R(args.negative_slope),      activation};
}

// The numbers of as many rows of one sample as R has lanes, for rows shorter than that.
template <class R, class Args>
NormalizedRow<R> rows_of(const Args& args, int64_t row, int64_t feature, Activation activation) {
  return {load_real<R>(args.statistics + feature),
          load_real<R>(args.statistics + 2 * args.features + feature),
          load_real<R>(args.gamma + row),
          load_real<R>(args.beta + row),
          R(args.negative_slope),
          activation};
}

template <class R, class T>
R load_across(const T* from, int64_t length) {
  T part[RealTraits<R>::kWidth];
  for (int64_t i = 0; i < RealTraits<R>::kWidth; ++i) part[i] = from[i * length];
  return load_real<R>(part);
}

template <class R, class T>
void store_across(T* to, int64_t length, R x) {
  T part[RealTraits<R>::kWidth];
  store_real(part, x);
  for (int64_t i = 0; i < RealTraits<R>::kWidth; ++i) to[i * length] = part[i];
}

// body.template operator()<R>(row, feature) for groups of rows whose features are neighbours, and
// for single ones where no whole group is left.
template <class T, class Body>
void each_group(int64_t features, int64_t begin, int64_t end, const Body& body) {
  constexpr int64_t kWidth = kLanes<T>;
  int64_t feature = begin % features;
  for (int64_t row = begin; row < end;) {
    const bool whole = row + kWidth <= end && feature + kWidth <= features;
    if (whole) {
      body.template operator()<Pack<T, kWidth>>(row, feature);
    } else {
      body.template operator()<T>(row, feature);
    }
    row += whole ? kWidth : 1;
    feature += whole ? kWidth : 1;
    if (feature == features) feature = 0;
  }
}

template <Activation kActivation, class T>
void normalize_short(const ConditionalBatchNormArgs<T>& args, int64_t begin, int64_t end) {
  const int64_t length = args.length;
  each_group<T>(args.features, begin, end, [&]<class R>(int64_t row, int64_t feature) {
    const NormalizedRow<R> numbers = rows_of<R>(args, row, feature, kActivation);
    for (int64_t i = row * length; i < (row + 1) * length; ++i) {
      store_across(args.y + i, length, numbers.value(load_across<R>(args.x + i, length)));
    }
  });
}

template <Activation kActivation, bool kSums, bool kDx, class T>
void backward_short(const ConditionalBatchNormBackwardArgs<T>& args, int64_t begin, int64_t end) {
  const int64_t length = args.length;
  each_group<T>(args.features, begin, end, [&]<class R>(int64_t row, int64_t feature) {
    const NormalizedRow<R> numbers = rows_of<R>(args, row, feature, kActivation);
    R mean_g(0), mean_gx(0), sum_g(0), sum_gx(0);
    if (args.means != nullptr) {
      mean_g = load_real<R>(args.means + feature);
      mean_gx = load_real<R>(args.means + args.features + feature);
    }
    for (int64_t i = row * length; i < (row + 1) * length; ++i) {
      const R normalized = numbers.normalized(load_across<R>(args.x + i, length));
      const R g = numbers.inner(load_across<R>(args.grad + i, length), normalized);
      if constexpr (kSums) {
        sum_g += g;
        sum_gx += g * normalized;
      }
      if constexpr (kDx) {
        store_across(args.dx + i, length, numbers.dx(g, normalized, mean_g, mean_gx));
      }
    }
    if constexpr (kSums) {
      store_real(args.dbeta + row, sum_g);
      store_real(args.dgamma + row, sum_gx);
    }
  });
}

template <class R, Activation kActivation, class T>
void normalize(const ConditionalBatchNormArgs<T>& args, int64_t begin, int64_t end) {
  const Cut<R> cut(args.length);
  int64_t feature = begin % args.features;
  for (int64_t row = begin; row < end; ++row) {
    const NormalizedRow<R> numbers = row_of<R>(args, row, feature, kActivation);
    if (++feature == args.features) feature = 0;
    const T* ECG_RESTRICT x = args.x + row * args.length;
    T* ECG_RESTRICT y = args.y + row * args.length;
    cut.each(args.length, [&](int64_t i, const auto&) {
      store_real(y + i, numbers.value(load_real<R>(x + i)));
    });
  }
}

// One walk through x and grad: the sums of each row, dx, or both.
template <class R, Activation kActivation, bool kSums, bool kDx, class T>
void backward(const ConditionalBatchNormBackwardArgs<T>& args, int64_t begin, int64_t end) {
  const Cut<R> cut(args.length);
  int64_t feature = begin % args.features;
  for (int64_t row = begin; row < end; ++row) {
    const NormalizedRow<R> numbers = row_of<R>(args, row, feature, kActivation);
    const R mean_g(args.means == nullptr ? T(0) : args.means[feature]);
    const R mean_gx(args.means == nullptr ? T(0) : args.means[args.features + feature]);
    if (++feature == args.features) feature = 0;
    const T* ECG_RESTRICT x = args.x + row * args.length;
    const T* ECG_RESTRICT grad = args.grad + row * args.length;
    R sum_g(0), sum_gx(0);
    cut.each(args.length, [&](int64_t i, const auto& fresh) {
      const R normalized = numbers.normalized(load_real<R>(x + i));
      const R g = numbers.inner(load_real<R>(grad + i), normalized);
      if constexpr (kSums) {
        sum_g += fresh(g);
        sum_gx += fresh(g * normalized);
      }
      if constexpr (kDx) {
        store_real(args.dx + row * args.length + i, numbers.dx(g, normalized, mean_g, mean_gx));
      }
    });
    if constexpr (kSums) {
      args.dbeta[row] = sum_lanes(sum_g);
      args.dgamma[row] = sum_lanes(sum_gx);
    }
  }
}

template <class T>
void backward_means(const ConditionalBatchNormBackwardArgs<T>& args, int64_t begin, int64_t end) {
  const double count = static_cast<double>(args.batch * args.length);
  for (int64_t first = begin; first < end; first += kFeatures) {
    const int64_t features = end - first < kFeatures ? end - first : kFeatures;
    double g[kFeatures] = {}, gx[kFeatures] = {};
    for (int64_t b = 0; b < args.batch; ++b) {
      const int64_t row = b * args.features + first;
      for (int64_t f = 0; f < features; ++f) {
        const double gamma = static_cast<double>(args.gamma[row + f]);
        g[f] += gamma * static_cast<double>(args.dbeta[row + f]);
        gx[f] += gamma * static_cast<double>(args.dgamma[row + f]);
      }
    }
    for (int64_t f = 0; f < features; ++f) {
      args.means[first + f] = static_cast<T>(g[f] / count);
      args.means[args.features + first + f] = static_cast<T>(gx[f] / count);
    }
  }
}

// Run-time choices, outside every loop: body.template operator()<kActivation>().
template <class Body>
void with_activation(Activation activation, const Body& body) {
  switch (activation) {
    case Activation::kRelu:
      return body.template operator()<Activation::kRelu>();
    case Activation::kLeakyRelu:
      return body.template operator()<Activation::kLeakyRelu>();
    case Activation::kTanh:
      return body.template operator()<Activation::kTanh>();
    case Activation::kIdentity:
      return body.template operator()<Activation::kIdentity>();
  }
}

template <class T>
void normalize_any(const ConditionalBatchNormArgs<T>& args, int64_t begin, int64_t end) {
  with_activation(args.activation, [&]<Activation kActivation>() {
    if (args.length < kLanes<T>) return normalize_short<kActivation>(args, begin, end);
    normalize<Pack<T, kLanes<T>>, kActivation>(args, begin, end);
  });
}

template <bool kSums, bool kDx, class T>
void backward_any(const ConditionalBatchNormBackwardArgs<T>& args, int64_t begin, int64_t end) {
  with_activation(args.activation, [&]<Activation kActivation>() {
    if (args.length < kLanes<T>) return backward_short<kActivation, kSums, kDx>(args, begin, end);
    backward<Pack<T, kLanes<T>>, kActivation, kSums, kDx>(args, begin, end);
  });
}

template <class T>
void backward_rows(const ConditionalBatchNormBackwardArgs<T>& args, int64_t begin, int64_t end) {
  const bool sums = args.dgamma != nullptr, dx = args.dx != nullptr && args.means == nullptr;
  if (sums && dx) return backward_any<true, true>(args, begin, end);
  if (sums) return backward_any<true, false>(args, begin, end);
  if (dx) return backward_any<false, true>(args, begin, end);
}

template <class T>
void backward_dx(const ConditionalBatchNormBackwardArgs<T>& args, int64_t begin, int64_t end) {
  backward_any<false, true>(args, begin, end);
}

}  // namespace

template <class T>
ConditionalBatchNormKernels<T> conditional_batch_norm_kernels() {
  return {statistics<T>, normalize_any<T>, backward_rows<T>, backward_means<T>, backward_dx<T>};
}
template ConditionalBatchNormKernels<float> conditional_batch_norm_kernels();
template ConditionalBatchNormKernels<double> conditional_batch_norm_kernels();

}  // namespace ecg::cpu::ECG_ISA

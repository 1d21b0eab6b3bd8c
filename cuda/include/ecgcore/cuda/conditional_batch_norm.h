// SPDX-License-Identifier: MIT
//
// Conditional batch normalisation as block programs, and their launchers.
//
// Forward: moments of chunks of the batch, a block for each feature and chunk; the chunks put
// together, a thread a feature; normalisation, elementwise. Backward: the two sums of every row;
// their means over the batch, weighted by gamma, a block a feature; dx, elementwise. All sums have
// an order of their own.
#pragma once

#include "ecgcore/cuda/stream.h"
#include "ecgcore/cuda/tile.h"
#include "ecgcore/kernels/conditional_batch_norm.h"
#include "ecgcore/math/batch_norm.h"

namespace ecg::cuda {

// Chunks of the batch whose moments are taken apart: enough blocks for few features, at least 4096
// values in each. A matter of sizes alone.
template <class T>
int64_t conditional_batch_norm_chunks(const ConditionalBatchNormArgs<T>& args) {
  if (args.running_mean != nullptr) return 0;
  int64_t chunks = ceil_div(args.batch * args.length, 4096);
  if (chunks > args.batch) chunks = args.batch;
  return chunks < 32 ? chunks : 32;
}
// Scratch of a forward call, in elements of T.
template <class T>
int64_t conditional_batch_norm_scratch(const ConditionalBatchNormArgs<T>& args) {
  return 3 * conditional_batch_norm_chunks(args) * args.features;
}

template <class T>
struct BatchMoments {
  static constexpr int kThreads = 256;
  ConditionalBatchNormArgs<T> args;
  Moments<T>* partial;  // (chunks, features)
  int64_t chunks;

  ECG_HD int64_t blocks() const { return chunks * args.features; }
  size_t shared_bytes() const { return SharedSize().add<Moments<T>>(kThreads).bytes(); }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    Moments<T>* part = block.template shared<Moments<T>>(kThreads);
    const int64_t chunk = block.index() / args.features, feature = block.index() % args.features;
    const int64_t first = chunk * args.batch / chunks, last = (chunk + 1) * args.batch / chunks;
    block.phase([&](int thread) {
      Moments<T> own{T(0), T(0), T(0)};
      int64_t row = first + thread / args.length, i = thread % args.length;
      const int64_t rows = kThreads / args.length, rest = kThreads % args.length;
      while (row < last) {
        const T x = args.x[(row * args.features + feature) * args.length + i];
        own = merged(own, {T(1), x, T(0)});
        row += rows;
        i += rest;
        if (i >= args.length) {
          i -= args.length;
          ++row;
        }
      }
      part[thread] = own;
    });
    for (int half = kThreads / 2; half > 0; half /= 2) {
      block.phase([&](int thread) {
        if (thread < half && part[thread + half].count > T(0)) {
          part[thread] = merged(part[thread], part[thread + half]);
        }
      });
    }
    block.phase([&](int thread) {
      if (thread == 0) partial[block.index()] = part[0];
    });
  }
};

template <class T>
struct FeatureStatisticsOf {
  static constexpr int kThreads = 64;
  ConditionalBatchNormArgs<T> args;
  const Moments<T>* partial;  // (chunks, features)
  int64_t chunks;

  ECG_HD int64_t blocks() const { return ceil_div(args.features, kThreads); }
  size_t shared_bytes() const { return 0; }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    block.phase([&](int thread) {
      const int64_t f = block.index() * kThreads + thread;
      if (f >= args.features) return;
      const double eps = static_cast<double>(args.eps);
      FeatureStatistics<double> found;
      if (args.running_mean != nullptr) {
        found = running_statistics(static_cast<double>(args.running_mean[f]),
                                   static_cast<double>(args.running_var[f]), eps);
      } else {
        Moments<double> all{0.0, 0.0, 0.0};
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
          const Moments<T> part = partial[chunk * args.features + f];
          all = merged(all, {static_cast<double>(part.count), static_cast<double>(part.mean),
                             static_cast<double>(part.m2)});
        }
        found = batch_statistics(all, eps);
      }
      args.statistics[f] = static_cast<T>(found.mean);
      args.statistics[args.features + f] = static_cast<T>(found.unbiased);
      args.statistics[2 * args.features + f] = static_cast<T>(found.inverse_deviation);
    });
  }
};

// The numbers of one row of either call.
template <class T, class Args>
ECG_HD NormalizedRow<T> normalized_row(const Args& args, int64_t row, int64_t feature) {
  return {args.statistics[feature], args.statistics[2 * args.features + feature],
          args.gamma[row],          args.beta[row],
          args.negative_slope,      args.activation};
}

// Elementwise programs: Element(args, row, feature, at).
template <class Args, class Element>
struct OverElements {
  static constexpr int kThreads = kTileThreads;
  Args args;

  ECG_HD SampleTiles tiles() const { return {args.batch, args.features, args.length}; }
  ECG_HD int64_t blocks() const { return tiles().count(); }
  size_t shared_bytes() const { return 0; }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    block.phase([&](int thread) {
      const int64_t sample_row = block.index() / tiles().of_sample() * args.features;
      tiles().each(block.index(), thread, [&](int64_t row, int64_t at, int64_t) {
        Element::run(args, row, row - sample_row, at);
      });
    });
  }
};

struct NormalizeElement {
  template <class T>
  static ECG_HD void run(const ConditionalBatchNormArgs<T>& args, int64_t row, int64_t feature,
                         int64_t at) {
    args.y[at] = normalized_row<T>(args, row, feature).value(args.x[at]);
  }
};

// dgamma and dbeta: kRows rows a block, 32 threads each.
template <class T>
struct NormalizedRowSums {
  static constexpr int kThreads = 128;
  static constexpr int kSlices = 32;
  static constexpr int kRows = kThreads / kSlices;
  ConditionalBatchNormBackwardArgs<T> args;

  struct Sums {
    T g, gx;
    ECG_HD Sums& operator+=(Sums other) {
      g += other.g;
      gx += other.gx;
      return *this;
    }
  };

  ECG_HD int64_t rows() const { return args.batch * args.features; }
  ECG_HD int64_t blocks() const { return ceil_div(rows(), kRows); }
  size_t shared_bytes() const { return SharedSize().add<Sums>(kThreads).bytes(); }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    Sums* sums = block.template shared<Sums>(kThreads);
    const int64_t first = block.index() * kRows;
    block.phase([&](int thread) {
      const int64_t row = first + thread % kRows;
      Sums own{T(0), T(0)};
      if (row < rows()) {
        const NormalizedRow<T> numbers = normalized_row<T>(args, row, row % args.features);
        for (int64_t i = thread / kRows; i < args.length; i += kSlices) {
          const int64_t at = row * args.length + i;
          const T normalized = numbers.normalized(args.x[at]);
          const T g = numbers.inner(args.grad[at], normalized);
          own += Sums{g, g * normalized};
        }
      }
      sums[thread] = own;
    });
    sum_groups<kThreads>(block, sums, kSlices);
    block.phase([&](int thread) {
      if (thread < kRows && first + thread < rows()) {
        args.dbeta[first + thread] = sums[thread].g;
        args.dgamma[first + thread] = sums[thread].gx;
      }
    });
  }
};

// The two means over a feature that dx needs.
template <class T>
struct GradientMeans {
  static constexpr int kThreads = 64;
  ConditionalBatchNormBackwardArgs<T> args;

  struct Sums {
    double g, gx;
    ECG_HD Sums& operator+=(Sums other) {
      g += other.g;
      gx += other.gx;
      return *this;
    }
  };

  ECG_HD int64_t blocks() const { return args.features; }
  size_t shared_bytes() const { return SharedSize().add<Sums>(kThreads).bytes(); }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    Sums* sums = block.template shared<Sums>(kThreads);
    block.phase([&](int thread) {
      Sums own{0.0, 0.0};
      for (int64_t b = thread; b < args.batch; b += kThreads) {
        const int64_t row = b * args.features + block.index();
        const double gamma = static_cast<double>(args.gamma[row]);
        own += Sums{gamma * static_cast<double>(args.dbeta[row]),
                    gamma * static_cast<double>(args.dgamma[row])};
      }
      sums[thread] = own;
    });
    sum_groups<kThreads>(block, sums, kThreads);
    block.phase([&](int thread) {
      if (thread > 0) return;
      const double count = static_cast<double>(args.batch * args.length);
      args.means[block.index()] = static_cast<T>(sums[0].g / count);
      args.means[args.features + block.index()] = static_cast<T>(sums[0].gx / count);
    });
  }
};

struct DxElement {
  template <class T>
  static ECG_HD void run(const ConditionalBatchNormBackwardArgs<T>& args, int64_t row,
                         int64_t feature, int64_t at) {
    const NormalizedRow<T> numbers = normalized_row<T>(args, row, feature);
    const T normalized = numbers.normalized(args.x[at]);
    const T g = numbers.inner(args.grad[at], normalized);
    const bool fixed = args.means == nullptr;
    args.dx[at] = numbers.dx(g, normalized, fixed ? T(0) : args.means[feature],
                             fixed ? T(0) : args.means[args.features + feature]);
  }
};

template <class T>
using Normalize = OverElements<ConditionalBatchNormArgs<T>, NormalizeElement>;
template <class T>
using NormalizedDx = OverElements<ConditionalBatchNormBackwardArgs<T>, DxElement>;

// Runs `start(program)` for the programs of one call in their order; start is a launch or the
// emulator.
template <class T, class Start>
Error conditional_batch_norm_forward_programs(const ConditionalBatchNormArgs<T>& args, T* scratch,
                                              const Start& start) {
  auto* partial = reinterpret_cast<Moments<T>*>(scratch);
  const int64_t chunks = conditional_batch_norm_chunks(args);
  if (chunks > 0) {
    if (const Error error = start(BatchMoments<T>{args, partial, chunks})) return error;
  }
  if (const Error error = start(FeatureStatisticsOf<T>{args, partial, chunks})) return error;
  return start(Normalize<T>{args});
}

template <class T, class Start>
Error conditional_batch_norm_backward_programs(const ConditionalBatchNormBackwardArgs<T>& args,
                                               const Start& start) {
  if (args.dgamma != nullptr) {
    if (const Error error = start(NormalizedRowSums<T>{args})) return error;
  }
  if (args.means != nullptr) {
    if (const Error error = start(GradientMeans<T>{args})) return error;
  }
  return args.dx == nullptr ? nullptr : start(NormalizedDx<T>{args});
}

// Queue on a stream; all pointers are device memory. `scratch` has conditional_batch_norm_scratch
// elements.
template <class T>
Error conditional_batch_norm_forward(const ConditionalBatchNormArgs<T>& args, T* scratch,
                                     Stream stream);
template <class T>
Error conditional_batch_norm_backward(const ConditionalBatchNormBackwardArgs<T>& args,
                                      Stream stream);

}  // namespace ecg::cuda

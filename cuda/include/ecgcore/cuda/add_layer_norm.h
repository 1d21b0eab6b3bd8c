// SPDX-License-Identifier: MIT
//
// Sum, layer normalisation and gate as a block program, and its launcher: a warp takes a row, whose
// sums wait in shared memory for their mean and variance, so that y and the residual are read once.
#pragma once

#include "ecgcore/cuda/stream.h"
#include "ecgcore/kernels/add_layer_norm.h"
#include "ecgcore/math/block.h"
#include "ecgcore/math/gate.h"
#include "ecgcore/math/layer_norm.h"

namespace ecg::cuda {

template <class T>
struct AddLayerNorm {
  static constexpr int kThreads = 128;
  static constexpr int kSlices = 32;
  static constexpr int kRows = kThreads / kSlices;
  AddLayerNormArgs<T> args;

  ECG_HD int64_t rows() const { return args.batch * args.length; }
  ECG_HD int64_t blocks() const { return ceil_div(rows(), kRows); }
  size_t shared_bytes() const {
    return SharedSize().add<T>(kRows * args.features).template add<T>(kThreads).bytes();
  }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    const int64_t features = args.features;
    T* sums = block.template shared<T>(kRows * features);
    T* part = block.template shared<T>(kThreads);  // (slices, rows)
    auto mean = block.template registers<T>();
    // body(row's number, slice, its place in `part`, its sums) for the thread's row, if it exists.
    const auto each = [&](int thread, const auto& body) {
      const int local = thread / kSlices, slice = thread % kSlices;
      const int64_t row = block.index() * kRows + local;
      if (row < rows()) body(row, slice, part + slice * kRows + local, sums + local * features);
    };
    block.phase([&](int thread) {
      mean[thread] = T(0);
      part[thread] = T(0);
    });
    block.phase([&](int thread) {
      each(thread, [&](int64_t row, int slice, T* own, T* sum) {
        const int64_t b = row / args.length, l = row - b * args.length;
        const T* y = args.y + b * args.y_batch + l * args.y_row;
        const T* residual = args.residual;
        if (residual != nullptr) residual += b * args.residual_batch + l * args.residual_row;
        T total(0);
        for (int64_t i = slice; i < features; i += kSlices) {
          const T s = residual == nullptr ? y[i] : y[i] + residual[i];
          sum[i] = s;
          total += s;
        }
        *own = total;
      });
    });
    if (args.normalize) {
      sum_groups<kThreads>(block, part, kSlices);
      block.phase(
          [&](int thread) { mean[thread] = part[thread / kSlices] / static_cast<T>(features); });
      block.phase([&](int thread) {
        each(thread, [&](int64_t, int slice, T* own, const T* sum) {
          T squares(0);
          for (int64_t i = slice; i < features; i += kSlices) {
            const T distance = sum[i] - mean[thread];
            squares += distance * distance;
          }
          *own = squares;
        });
      });
      sum_groups<kThreads>(block, part, kSlices);
    }
    block.phase([&](int thread) {
      each(thread, [&](int64_t row, int slice, const T*, const T* sum) {
        const int64_t b = row / args.length, l = row - b * args.length;
        const T* shift = args.shift == nullptr ? nullptr : args.shift + b * args.shift_batch;
        const T inverse =
            args.normalize
                ? inverse_deviation(part[thread / kSlices] / static_cast<T>(features), args.eps)
                : T(1);
        const auto normalized = [&](int64_t i) {
          T offset = args.bias == nullptr ? T(0) : args.bias[i];
          if (shift != nullptr) offset += shift[i];
          return layer_normalized(sum[i], mean[thread], inverse,
                                  args.weight == nullptr ? T(1) : args.weight[i], offset);
        };
        T* out = args.out + b * args.out_batch + l * args.out_row;
        const int64_t width = args.gate ? features / 2 : features;
        for (int64_t i = slice; i < width; i += kSlices) {
          T value = normalized(i);
          if (args.gate) value = gated(value, normalized(i + width));
          value *= args.scale;
          out[i] = args.accumulate ? out[i] + value : value;
        }
      });
    });
  }
};

// Queues on a stream; all pointers are device memory.
template <class T>
Error add_layer_norm_forward(const AddLayerNormArgs<T>& args, Stream stream);

}  // namespace ecg::cuda

// SPDX-License-Identifier: MIT
//
// Sum, layer normalisation and gate on the CPU: y and the residual are read once; their sum stays
// in L1 while the mean, then the variance about it, and then the result are formed.
#include "ecgcore/kernels/add_layer_norm.h"

#include "ecgcore/math/gate.h"
#include "ecgcore/math/layer_norm.h"
#include "lanes.h"

namespace ecg::cpu::ECG_ISA {
namespace {

// One row; out may be y or the residual.
template <bool kNormalize, bool kResidual, bool kGate, class T>
void row_of(const AddLayerNormArgs<T>& args, const T* y, const T* residual, const T* shift,
            T* ECG_RESTRICT sums, T* out) {
  const int64_t features = args.features;
  const auto sum_at = [&]<class R>(int64_t i) {
    R s = load_real<R>(y + i);
    if constexpr (kResidual) s += load_real<R>(residual + i);
    return s;
  };
  T mean(0), inverse(1);
  if constexpr (kNormalize) {
    const T count = static_cast<T>(features);
    mean = sum_of_lanes<T>(features,
                           [&]<class R>(int64_t i) {
                             const R s = sum_at.template operator()<R>(i);
                             store_real(sums + i, s);
                             return s;
                           }) /
           count;
    const T squares = sum_of_lanes<T>(features, [&]<class R>(int64_t i) {
      const R distance = load_real<R>(sums + i) - R(mean);
      return distance * distance;
    });
    inverse = inverse_deviation(squares / count, args.eps);
  }
  const auto normalized = [&]<class R>(int64_t i) {
    R offset(0);
    if (args.bias != nullptr) offset = load_real<R>(args.bias + i);
    if (shift != nullptr) offset += load_real<R>(shift + i);
    if constexpr (kNormalize) {
      const R weight = args.weight == nullptr ? R(1) : load_real<R>(args.weight + i);
      return layer_normalized(load_real<R>(sums + i), R(mean), R(inverse), weight, offset);
    } else {
      return sum_at.template operator()<R>(i) + offset;
    }
  };
  each_lanes<T>(kGate ? features / 2 : features, [&]<class R>(int64_t i) {
    R value = normalized.template operator()<R>(i);
    if constexpr (kGate) value = gated(value, normalized.template operator()<R>(i + features / 2));
    value *= R(args.scale);
    if (args.accumulate) value += load_real<R>(out + i);
    store_real(out + i, value);
  });
}

template <bool kNormalize, bool kResidual, bool kGate, class T>
void rows_of(const AddLayerNormArgs<T>& args, T* scratch, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t b = row / args.length, l = row % args.length;
    const auto at = [&](auto* from, int64_t batch_stride, int64_t row_stride) {
      return from == nullptr ? nullptr : from + b * batch_stride + l * row_stride;
    };
    row_of<kNormalize, kResidual, kGate>(args, at(args.y, args.y_batch, args.y_row),
                                         at(args.residual, args.residual_batch, args.residual_row),
                                         at(args.shift, args.shift_batch, 0), scratch,
                                         at(args.out, args.out_batch, args.out_row));
  }
}

template <class T>
void forward(const AddLayerNormArgs<T>& args, T* scratch, int64_t begin, int64_t end) {
  const auto with_residual = [&]<bool kNormalize, bool kGate>() {
    if (args.residual != nullptr) {
      rows_of<kNormalize, true, kGate>(args, scratch, begin, end);
    } else {
      rows_of<kNormalize, false, kGate>(args, scratch, begin, end);
    }
  };
  if (args.normalize) {
    if (args.gate) return with_residual.template operator()<true, true>();
    return with_residual.template operator()<true, false>();
  }
  if (args.gate) return with_residual.template operator()<false, true>();
  with_residual.template operator()<false, false>();
}

}  // namespace

template <class T>
AddLayerNormKernels<T> add_layer_norm_kernels() {
  return {forward<T>};
}
template AddLayerNormKernels<float> add_layer_norm_kernels();
template AddLayerNormKernels<double> add_layer_norm_kernels();

}  // namespace ecg::cpu::ECG_ISA

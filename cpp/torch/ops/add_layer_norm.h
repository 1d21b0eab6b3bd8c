// SPDX-License-Identifier: MIT
#pragma once

#include <optional>

#include "../backend_cpu.h"
#include "../library.h"
#include "../rows.h"
#include "ecgcore/kernels/add_layer_norm.h"

namespace ecg::torch_abi {

// How the kernels are started on each backend.
template <class Backend, class T>
struct AddLayerNormRun;

template <class T>
struct AddLayerNormRun<Cpu, T> {
  static void forward(const AddLayerNormArgs<T>& args) {
    const auto kernels = cpu::add_layer_norm_kernels<T>();
    Cpu::rows_with_scratch<T>(args.batch * args.length, args.features, args.features,
                              [&](T* scratch, int64_t begin, int64_t end) {
                                kernels.forward(args, scratch, begin, end);
                              });
  }
};

namespace detail {

struct AddLayerNormInputs {
  const Tensor& y;
  const std::optional<Tensor>&residual, &weight, &bias, &shift;
  const Tensor& out;
  std::optional<double> eps;
  bool gate;
  double scale;
  bool accumulate;
};

template <class Backend, class T>
void add_layer_norm(const AddLayerNormInputs& in) {
  const RowsView y(in.y), out(in.out), residual(in.residual ? *in.residual : in.y);
  const auto pointer = [](const std::optional<Tensor>& tensor) {
    return tensor ? tensor->data<T>() : nullptr;
  };
  AddLayerNormRun<Backend, T>::forward({in.y.data<T>(),
                                        pointer(in.residual),
                                        pointer(in.weight),
                                        pointer(in.bias),
                                        pointer(in.shift),
                                        in.out.mutable_data<T>(),
                                        y.batch,
                                        y.length,
                                        y.features,
                                        y.batch_stride,
                                        y.row_stride,
                                        residual.batch_stride,
                                        residual.row_stride,
                                        out.batch_stride,
                                        out.row_stride,
                                        in.shift && in.shift->size(0) > 1 ? y.features : 0,
                                        static_cast<T>(in.eps.value_or(0.0)),
                                        static_cast<T>(in.scale),
                                        in.eps.has_value(),
                                        in.gate,
                                        in.accumulate});
}

}  // namespace detail

// No eps: nothing is normalised.
template <class Backend>
void add_layer_norm(const Tensor& y, std::optional<Tensor> residual, std::optional<Tensor> weight,
                    std::optional<Tensor> bias, std::optional<Tensor> shift,
                    const Written<'a'>& out, std::optional<double> eps, bool gate, double scale,
                    bool accumulate) {
  const Check check("add_layer_norm");
  check.dtype(y, "y", {DType::f32, DType::f64});
  check_rows(check, y, "y", "(B, L, F)", {-1, -1, -1}, y);
  const int64_t features = y.size(2);
  check.that(!gate || features % 2 == 0,
             "y must have an even number of features for the gate, got " + join(y.sizes()));
  check_rows(check, out, "out", gate ? "(B, L, F/2)" : "(B, L, F)",
             {y.size(0), y.size(1), gate ? features / 2 : features}, y);
  check_writable(check, out, "out");
  if (residual) check_rows(check, *residual, "residual", "(B, L, F)", y.sizes(), y);
  const std::vector<int64_t> row{features};
  if (weight) check.operand(*weight, "weight", y.dtype(), y.device(), "(F,)", row);
  if (bias) check.operand(*bias, "bias", y.dtype(), y.device(), "(F,)", row);
  check.that(eps.has_value() || !(weight || bias),
             "weight and bias must be left out where nothing is normalised");
  if (shift) check_per_sample(check, *shift, "shift", "(B|1, F)", y.size(0), features, y);
  if (out.numel() == 0) return;
  check_row_for_row(check, out, "out", y, "y");
  if (residual) check_row_for_row(check, out, "out", *residual, "residual");
  const auto run = y.dtype() == DType::f32 ? detail::add_layer_norm<Backend, float>
                                           : detail::add_layer_norm<Backend, double>;
  run({y, residual, weight, bias, shift, out, eps, gate, scale, accumulate});
}

}  // namespace ecg::torch_abi

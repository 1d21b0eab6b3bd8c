// SPDX-License-Identifier: MIT
#pragma once

#include <optional>

#include "../library.h"
#include "../packed.h"
#include "../rows.h"
#include "ecgcore/kernels/packed_linear.h"

namespace ecg::torch_abi {

// How the kernels are started on each backend: only the CPU has one. W is the entry of the weights.
template <class Backend, class W>
struct PackedLinearRun;

template <class W>
struct PackedLinearRun<Cpu, W> {
  static void forward(const PackedLinearArgs<W>& args) {
    const auto kernels = cpu::packed_linear_kernels<W>();
    const int64_t scratch = kernels.scratch(args.inner);
    rows_or_panels(
        args.batch * args.length, 128, panels_of(args.features), args.inner * kPanelFeatures / 8,
        [&](auto... range) { kernels.forward(args, Scratch::of<char>(scratch), range...); });
  }
};

namespace detail {

template <class Backend, class W>
void packed_linear(const Tensor& x, const Tensor& packed, const std::optional<Tensor>& bias,
                   const std::optional<Tensor>& shift, const Tensor& out, bool relu,
                   bool accumulate) {
  using T = RealOf<W>;
  const RowsView in(x), to(out);
  PackedLinearArgs<W> args{x.data<T>(),
                           packed.data<W>(),
                           bias ? bias->data<T>() : nullptr,
                           shift ? shift->data<T>() : nullptr,
                           out.mutable_data<T>(),
                           in.batch,
                           in.length,
                           in.features,
                           to.features,
                           in.batch_stride,
                           in.row_stride,
                           to.batch_stride,
                           to.row_stride,
                           shift && shift->size(0) > 1 ? to.features : 0,
                           relu,
                           accumulate};
  // Samples whose rows go on evenly are one long sample: no tile ends with them.
  if (args.shift_batch == 0 && in.is_even() && to.is_even()) {
    args.length *= args.batch;
    args.batch = 1;
  }
  PackedLinearRun<Backend, W>::forward(args);
}

}  // namespace detail

template <class Backend>
void packed_linear(const Tensor& x, const Tensor& packed, std::optional<Tensor> bias,
                   std::optional<Tensor> shift, const Written<'a'>& out, bool relu,
                   bool accumulate) {
  const Check check("packed_linear");
  check.dtype(x, "x", {DType::f32, DType::f64});
  check_rows(check, x, "x", "(B, L, K)", {-1, -1, -1}, x);
  check_rows(check, out, "out", "(B, L, N)", {x.size(0), x.size(1), -1}, x);
  check_writable(check, out, "out");
  check_apart(check, out, "out", x, "x");
  const int64_t inner = x.size(2), features = out.size(2);
  const bool wide = x.dtype() == DType::f64, pairs = in_pairs(packed, x);
  check_packed(
      check, packed, x, "pack_linear of a weight " + join({features, inner}),
      pairs ? packed_size<BFloat16Pair>(features, inner) : packed_size<float>(features, inner));
  if (bias) check.operand(*bias, "bias", x.dtype(), x.device(), "(N,)", {features});
  if (shift) check_per_sample(check, *shift, "shift", "(B|1, N)", x.size(0), features, x);
  if (out.numel() == 0) return;
  const auto run = wide    ? detail::packed_linear<Backend, double>
                   : pairs ? detail::packed_linear<Backend, BFloat16Pair>
                           : detail::packed_linear<Backend, float>;
  run(x, packed, bias, shift, out, relu, accumulate);
}

}  // namespace ecg::torch_abi

// SPDX-License-Identifier: MIT
#pragma once

#include <optional>

#include "../library.h"
#include "../packed.h"
#include "../rows.h"
#include "ecgcore/kernels/packed_conv.h"

namespace ecg::torch_abi {

// How the kernels are started on each backend: only the CPU has one. W is the entry of the weights.
template <class Backend, class W>
struct PackedConvRun;

template <class W>
struct PackedConvRun<Cpu, W> {
  static void forward(const PackedConvArgs<W>& args) {
    const auto kernels = cpu::packed_conv_kernels<W>();
    const int64_t scratch = kernels.scratch(args.channels);
    rows_or_panels(args.batch * tiles_of<W>(args.length), 64, panels_of(args.features),
                   WinogradOf<W>::kPoints * args.channels * kPanelFeatures / 8, [&](auto... range) {
                     kernels.forward(args, Scratch::of<double>(scratch), range...);
                   });
  }
};

namespace detail {

template <class Backend, class W>
void packed_conv(const Tensor& x, const Tensor& packed, const std::optional<Tensor>& bias,
                 const Tensor& out) {
  using T = RealOf<W>;
  const RowsView in(x), to(out);
  PackedConvRun<Backend, W>::forward(
      {x.data<T>(), packed.data<W>(), bias ? bias->data<T>() : nullptr, out.mutable_data<T>(),
       to.batch, to.length, in.features, to.features, in.batch_stride, in.row_stride,
       to.batch_stride, to.row_stride});
}

}  // namespace detail

template <class Backend>
void packed_conv(const Tensor& x, const Tensor& packed, std::optional<Tensor> bias,
                 const Written<'a'>& out) {
  const Check check("packed_conv");
  check.dtype(x, "x", {DType::f32, DType::f64});
  check_rows(check, x, "x", "(B, L + 2, C)", {-1, -1, -1}, x);
  check.that(x.size(1) >= 2, "x must have shape (B, L + 2, C), got " + join(x.sizes()));
  check_rows(check, out, "out", "(B, L, N)", {x.size(0), x.size(1) - 2, -1}, x);
  check_writable(check, out, "out");
  check_apart(check, out, "out", x, "x");
  const int64_t channels = x.size(2), features = out.size(2);
  const bool wide = x.dtype() == DType::f64, pairs = in_pairs(packed, x);
  check_packed(check, packed, x, "pack_conv of a weight " + join({features, channels, 3}),
               pairs ? packed_conv_size<BFloat16Pair>(features, channels)
                     : packed_conv_size<float>(features, channels));
  if (bias) check.operand(*bias, "bias", x.dtype(), x.device(), "(N,)", {features});
  if (out.numel() == 0) return;
  const auto run = wide    ? detail::packed_conv<Backend, double>
                   : pairs ? detail::packed_conv<Backend, BFloat16Pair>
                           : detail::packed_conv<Backend, float>;
  run(x, packed, bias, out);
}

}  // namespace ecg::torch_abi

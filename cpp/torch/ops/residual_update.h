// SPDX-License-Identifier: MIT
#pragma once

#include <optional>

#include "../backend_cpu.h"
#include "../library.h"
#include "../rows.h"
#include "ecgcore/kernels/residual_update.h"

namespace ecg::torch_abi {

// How the kernels are started on each backend.
template <class Backend, class T>
struct ResidualUpdateRun;

template <class T>
struct ResidualUpdateRun<Cpu, T> {
  static void forward(const ResidualUpdateArgs<T>& args) {
    const auto kernels = cpu::residual_update_kernels<T>();
    Cpu::rows(args.batch * args.length, args.residual + args.skipped,
              [&](int64_t begin, int64_t end) { kernels.forward(args, begin, end); });
  }
};

namespace detail {

template <class Backend, class T>
void residual_update(const Tensor& rs, const std::optional<Tensor>& step, const Tensor& x,
                     const Tensor& skip, const Tensor* padded, bool first) {
  const RowsView in(rs), state(x), skipped(skip), inner(padded == nullptr ? x : *padded);
  ResidualUpdateRun<Backend, T>::forward(
      {rs.data<T>(), step ? step->data<T>() : nullptr, x.mutable_data<T>(), skip.mutable_data<T>(),
       // Behind the row of zeros with which each sample begins.
       padded == nullptr ? nullptr : padded->mutable_data<T>() + inner.row_stride, in.batch,
       in.length, state.features, skipped.features, in.batch_stride, in.row_stride,
       state.batch_stride, state.row_stride, skipped.batch_stride, skipped.row_stride,
       inner.batch_stride, inner.row_stride, step && step->size(0) > 1 ? state.features : 0,
       first});
}

}  // namespace detail

template <class Backend>
void residual_update(const Tensor& rs, std::optional<Tensor> step, const Written<'a'>& x,
                     const Written<'b'>& skip, std::optional<Written<'c'>> padded, bool first) {
  const Check check("residual_update");
  check.dtype(rs, "rs", {DType::f32, DType::f64});
  check_rows(check, rs, "rs", "(B, L, R + S)", {-1, -1, -1}, rs);
  const int64_t batch = rs.size(0), length = rs.size(1);
  check_rows(check, x, "x", "(B, L, R)", {batch, length, -1}, rs);
  const int64_t residual = x.size(2);
  check_rows(check, skip, "skip", "(B, L, S)", {batch, length, rs.size(2) - residual}, rs);
  check_writable(check, x, "x");
  check_writable(check, skip, "skip");
  check_apart(check, x, "x", rs, "rs");
  check_apart(check, skip, "skip", rs, "rs");
  check_apart(check, x, "x", skip, "skip");
  check.that(padded || !step, "step must be left out where padded is");
  if (padded) {
    check_rows(check, *padded, "padded", "(B, L + 2, R)", {batch, length + 2, residual}, rs);
    check_writable(check, *padded, "padded");
    check_apart(check, *padded, "padded", rs, "rs");
    check_apart(check, *padded, "padded", x, "x");
    check_apart(check, *padded, "padded", skip, "skip");
  }
  if (step) check_per_sample(check, *step, "step", "(B|1, R)", batch, residual, rs);
  if (batch * length == 0) return;
  const auto run = rs.dtype() == DType::f32 ? detail::residual_update<Backend, float>
                                            : detail::residual_update<Backend, double>;
  run(rs, step, x, skip, padded ? &*padded : nullptr, first);
}

}  // namespace ecg::torch_abi

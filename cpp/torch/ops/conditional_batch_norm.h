// SPDX-License-Identifier: MIT
#pragma once

#include <optional>

#include "../backend_cpu.h"
#include "../check.h"
#include "ecgcore/kernels/conditional_batch_norm.h"

namespace ecg::torch_abi {

// How the kernels are started on each backend.
template <class Backend, class T>
struct ConditionalBatchNormRun;

template <class T>
struct ConditionalBatchNormRun<Cpu, T> {
  static void forward(const ConditionalBatchNormArgs<T>& args) {
    const auto kernels = cpu::conditional_batch_norm_kernels<T>();
    const int64_t feature_cost = args.running_mean == nullptr ? 2 * args.batch * args.length : 1;
    Cpu::rows(args.features, feature_cost,
              [&](int64_t begin, int64_t end) { kernels.statistics(args, begin, end); });
    Cpu::rows(args.batch * args.features, 2 * args.length,
              [&](int64_t begin, int64_t end) { kernels.normalize(args, begin, end); });
  }
  static void backward(const ConditionalBatchNormBackwardArgs<T>& args) {
    const auto kernels = cpu::conditional_batch_norm_kernels<T>();
    const int64_t rows = args.batch * args.features, cost = 4 * args.length;
    Cpu::rows(rows, cost,
              [&](int64_t begin, int64_t end) { kernels.backward_rows(args, begin, end); });
    if (args.means == nullptr) return;
    Cpu::rows(args.features, 2 * args.batch,
              [&](int64_t begin, int64_t end) { kernels.backward_means(args, begin, end); });
    Cpu::rows(rows, cost,
              [&](int64_t begin, int64_t end) { kernels.backward_dx(args, begin, end); });
  }
};

namespace detail {

inline void check_conditional_batch_norm(const Check& check, const Tensor& x, const Tensor& gamma,
                                         const Tensor& beta, int64_t activation) {
  check.dtype(x, "x", {DType::f32, DType::f64});
  check.shape(x, "x", "(B, F, L)", {-1, -1, -1});
  check.contiguous(x, "x");
  check.at_least(x.size(2), "L", 1);
  const std::vector<int64_t> rows{x.size(0), x.size(1)};
  check.operand(gamma, "gamma", x.dtype(), x.device(), "(B, F)", rows);
  check.operand(beta, "beta", x.dtype(), x.device(), "(B, F)", rows);
  check.that(0 <= activation && activation <= static_cast<int64_t>(Activation::kTanh),
             "activation must be a number from 0 to 3, got " + std::to_string(activation));
}

template <class Backend, class T>
std::tuple<Tensor, Tensor> conditional_batch_norm(const Tensor& x, const Tensor& gamma,
                                                  const Tensor& beta,
                                                  const std::optional<Tensor>& running_mean,
                                                  const std::optional<Tensor>& running_var,
                                                  double eps, int64_t activation,
                                                  double negative_slope) {
  Tensor y = empty(x.sizes(), x.dtype(), x.device());
  Tensor statistics = empty({3, x.size(1)}, x.dtype(), x.device());
  ConditionalBatchNormRun<Backend, T>::forward(
      {x.data<T>(), gamma.data<T>(), beta.data<T>(),
       running_mean ? running_mean->data<T>() : nullptr,
       running_var ? running_var->data<T>() : nullptr, statistics.mutable_data<T>(),
       y.mutable_data<T>(), x.size(0), x.size(1), x.size(2), static_cast<T>(eps),
       static_cast<T>(negative_slope), static_cast<Activation>(activation)});
  return {std::move(y), std::move(statistics)};
}

template <class Backend, class T>
std::tuple<Tensor, Tensor, Tensor> conditional_batch_norm_backward(
    const Tensor& grad, const Tensor& x, const Tensor& gamma, const Tensor& beta,
    const Tensor& statistics, bool training, int64_t activation, double negative_slope,
    const std::vector<bool>& wanted) {
  const auto make = [&](const Tensor& like, bool want) {
    return want ? empty(like.sizes(), like.dtype(), like.device()) : nothing_like(like);
  };
  // In training the sums of the rows go into dx, asked for or not.
  const bool through_statistics = training && wanted[0];
  const bool sums = wanted[1] || wanted[2] || through_statistics;
  Tensor dx = make(x, wanted[0]), dgamma = make(gamma, sums), dbeta = make(beta, sums);
  Tensor means = empty({through_statistics ? 2 : 0, x.size(1)}, x.dtype(), x.device());
  ConditionalBatchNormRun<Backend, T>::backward(
      {grad.data<T>(), x.data<T>(), gamma.data<T>(), beta.data<T>(), statistics.data<T>(),
       wanted[0] ? dx.mutable_data<T>() : nullptr, sums ? dgamma.mutable_data<T>() : nullptr,
       sums ? dbeta.mutable_data<T>() : nullptr,
       through_statistics ? means.mutable_data<T>() : nullptr, x.size(0), x.size(1), x.size(2),
       static_cast<T>(negative_slope), static_cast<Activation>(activation)});
  if (!wanted[1]) dgamma = nothing_like(gamma);
  if (!wanted[2]) dbeta = nothing_like(beta);
  return {std::move(dx), std::move(dgamma), std::move(dbeta)};
}

}  // namespace detail

// y, and the statistics (3, F) it was normalised with: mean, unbiased variance, 1/√(biased variance
// + eps). Those of x where no running ones are given.
template <class Backend>
std::tuple<Tensor, Tensor> conditional_batch_norm(const Tensor& x, const Tensor& gamma,
                                                  const Tensor& beta,
                                                  std::optional<Tensor> running_mean,
                                                  std::optional<Tensor> running_var, double eps,
                                                  int64_t activation, double negative_slope) {
  const Check check("conditional_batch_norm");
  detail::check_conditional_batch_norm(check, x, gamma, beta, activation);
  check.that(running_mean.has_value() == running_var.has_value(),
             "running_mean and running_var must be given together");
  if (running_mean) {
    const std::vector<int64_t> features{x.size(1)};
    check.operand(*running_mean, "running_mean", x.dtype(), x.device(), "(F,)", features);
    check.operand(*running_var, "running_var", x.dtype(), x.device(), "(F,)", features);
  } else {
    check.that(
        x.size(0) * x.size(2) != 1,
        "Expected more than 1 value per channel when training, got input size " + join(x.sizes()));
  }
  const auto run = x.dtype() == DType::f32 ? detail::conditional_batch_norm<Backend, float>
                                           : detail::conditional_batch_norm<Backend, double>;
  return run(x, gamma, beta, running_mean, running_var, eps, activation, negative_slope);
}

// Gradients of x, gamma, beta in this order; those not wanted are empty. `training`: the statistics
// are those of x.
template <class Backend>
std::tuple<Tensor, Tensor, Tensor> conditional_batch_norm_backward(
    const Tensor& grad, const Tensor& x, const Tensor& gamma, const Tensor& beta,
    const Tensor& statistics, bool training, int64_t activation, double negative_slope,
    std::vector<bool> wanted) {
  const Check check("conditional_batch_norm_backward");
  detail::check_conditional_batch_norm(check, x, gamma, beta, activation);
  check.operand(grad, "grad", x.dtype(), x.device(), "(B, F, L)", x.sizes());
  check.operand(statistics, "statistics", x.dtype(), x.device(), "(3, F)", {3, x.size(1)});
  check.that(wanted.size() == 3, "wanted must name x, gamma, beta");
  const auto run = x.dtype() == DType::f32
                       ? detail::conditional_batch_norm_backward<Backend, float>
                       : detail::conditional_batch_norm_backward<Backend, double>;
  return run(grad, x, gamma, beta, statistics, training, activation, negative_slope, wanted);
}

}  // namespace ecg::torch_abi

// SPDX-License-Identifier: MIT
#include <optional>

#include "ecgcore/cuda/conditional_batch_norm.h"
#include "emulate.h"

namespace ecg::emulate {
namespace {

template <class T>
void bind(py::module_& m) {
  using Optional = std::optional<Array<T>>;
  // y and statistics.
  m.def("conditional_batch_norm",
        [](const Array<T>& x, const Array<T>& gamma, const Array<T>& beta, const Optional& mean,
           const Optional& var, double eps, int64_t activation, double negative_slope,
           const std::string& order, uint64_t seed) {
          auto y = poisoned<T>({x.shape(0), x.shape(1), x.shape(2)});
          auto statistics = poisoned<T>({3, x.shape(1)});
          const ConditionalBatchNormArgs<T> args{x.data(),
                                                 gamma.data(),
                                                 beta.data(),
                                                 mean ? mean->data() : nullptr,
                                                 var ? var->data() : nullptr,
                                                 statistics.mutable_data(),
                                                 y.mutable_data(),
                                                 x.shape(0),
                                                 x.shape(1),
                                                 x.shape(2),
                                                 static_cast<T>(eps),
                                                 static_cast<T>(negative_slope),
                                                 static_cast<Activation>(activation)};
          auto scratch = poisoned<T>({cuda::conditional_batch_norm_scratch(args)});
          check(cuda::conditional_batch_norm_forward_programs(args, scratch.mutable_data(),
                                                              Emulate{order_of(order), seed}));
          return py::make_tuple(y, statistics);
        });
  // Gradients of x, gamma, beta; those that are not formed stay as they were: NaN.
  m.def(
      "conditional_batch_norm_backward",
      [](const Array<T>& grad, const Array<T>& x, const Array<T>& gamma, const Array<T>& beta,
         const Array<T>& statistics, bool training, int64_t activation, double negative_slope,
         bool want_dx, bool want_sums, const std::string& order, uint64_t seed) {
        auto dx = poisoned<T>({x.shape(0), x.shape(1), x.shape(2)});
        auto dgamma = poisoned<T>({x.shape(0), x.shape(1)});
        auto dbeta = poisoned<T>({x.shape(0), x.shape(1)});
        auto means = poisoned<T>({2, x.shape(1)});
        const ConditionalBatchNormBackwardArgs<T> args{grad.data(),
                                                       x.data(),
                                                       gamma.data(),
                                                       beta.data(),
                                                       statistics.data(),
                                                       want_dx ? dx.mutable_data() : nullptr,
                                                       want_sums ? dgamma.mutable_data() : nullptr,
                                                       want_sums ? dbeta.mutable_data() : nullptr,
                                                       training ? means.mutable_data() : nullptr,
                                                       x.shape(0),
                                                       x.shape(1),
                                                       x.shape(2),
                                                       static_cast<T>(negative_slope),
                                                       static_cast<Activation>(activation)};
        check(cuda::conditional_batch_norm_backward_programs(args, Emulate{order_of(order), seed}));
        return py::make_tuple(dx, dgamma, dbeta);
      });
}

}  // namespace

void bind_conditional_batch_norm(py::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace ecg::emulate

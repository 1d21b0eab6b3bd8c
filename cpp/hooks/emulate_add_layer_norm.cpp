// SPDX-License-Identifier: MIT
#include <optional>

#include "ecgcore/cuda/add_layer_norm.h"
#include "emulate.h"

namespace ecg::emulate {
namespace {

// Rows of y, of the residual and of `out` may be longer than their `features` (and half of them).
template <class T>
void bind(py::module_& m) {
  using Optional = std::optional<Array<T>>;
  m.def("add_layer_norm", [](const Array<T>& y, const Optional& residual, const Optional& weight,
                             const Optional& bias, const Optional& shift, const Array<T>& out,
                             int64_t features, std::optional<double> eps, bool gate, double scale,
                             bool accumulate, const std::string& order, uint64_t seed) {
    const auto pointer = [](const Optional& array) { return array ? array->data() : nullptr; };
    const auto row = [](const Array<T>& array) { return array.shape(2); };
    const auto sample = [](const Array<T>& array) { return array.shape(1) * array.shape(2); };
    Array<T> written({out.shape(0), out.shape(1), out.shape(2)}, out.data());
    const Array<T>& added = residual ? *residual : y;
    check(Emulate{order_of(order),
                  seed}(cuda::AddLayerNorm<T>{{y.data(),
                                               pointer(residual),
                                               pointer(weight),
                                               pointer(bias),
                                               pointer(shift),
                                               written.mutable_data(),
                                               y.shape(0),
                                               y.shape(1),
                                               features,
                                               sample(y),
                                               row(y),
                                               sample(added),
                                               row(added),
                                               sample(out),
                                               row(out),
                                               shift && shift->shape(0) > 1 ? features : 0,
                                               static_cast<T>(eps.value_or(0.0)),
                                               static_cast<T>(scale),
                                               eps.has_value(),
                                               gate,
                                               accumulate}}));
    return written;
  });
}

}  // namespace

void bind_add_layer_norm(py::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace ecg::emulate

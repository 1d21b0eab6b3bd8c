// SPDX-License-Identifier: MIT
#include <optional>

#include "ecgcore/cuda/residual_update.h"
#include "emulate.h"

namespace ecg::emulate {
namespace {

template <class T>
void bind(py::module_& m) {
  using Optional = std::optional<Array<T>>;
  // x, skip and padded, if it is given, as they are afterwards.
  m.def("residual_update", [](const Array<T>& rs, const Optional& step, const Array<T>& x,
                              const Array<T>& skip, const Optional& padded, bool first,
                              const std::string& order, uint64_t seed) {
    const auto copy = [](const Array<T>& array) {
      return Array<T>({array.shape(0), array.shape(1), array.shape(2)}, array.data());
    };
    const int64_t length = rs.shape(1), residual = x.shape(2), skipped = skip.shape(2);
    Array<T> state = copy(x), sum = copy(skip), moved = copy(padded ? *padded : x);
    check(Emulate{order_of(order), seed}(cuda::ResidualUpdate<T>{
        {rs.data(), step ? step->data() : nullptr, state.mutable_data(), sum.mutable_data(),
         padded ? moved.mutable_data() + residual : nullptr, rs.shape(0), length, residual, skipped,
         length * rs.shape(2), rs.shape(2), length * residual, residual, length * skipped, skipped,
         (length + 2) * residual, residual, step && step->shape(0) > 1 ? residual : 0, first}}));
    py::tuple found = py::make_tuple(state, sum);
    if (padded) found = py::make_tuple(state, sum, moved);
    return found;
  });
}

}  // namespace

void bind_residual_update(py::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace ecg::emulate

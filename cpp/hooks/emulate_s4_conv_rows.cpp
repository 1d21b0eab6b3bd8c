// SPDX-License-Identifier: MIT
#include <optional>

#include "ecgcore/cuda/s4_conv_rows.h"
#include "emulate.h"

namespace ecg::emulate {
namespace {

template <class T>
py::array table(const ComplexArray<T>& spectrum, const std::optional<Array<T>>& D,
                const Emulate& start) {
  const auto channels = spectrum.shape(0), features = spectrum.shape(1), bins = spectrum.shape(2);
  auto out = poisoned<T>({channels, 1, 2 * bins + 1, features});
  check(start(cuda::S4ConvTable<T>{{reals(spectrum), D ? D->data() : nullptr, out.mutable_data(),
                                    channels, features, 2 * (bins - 1)}}));
  return out;
}

// `wide`: with several pairs of features in a block.
template <class E>
py::array rows(const Array<RealOf<E>>& u, const Array<RealOf<E>>& table, bool gelu, bool wide,
               const Emulate& start) {
  using T = RealOf<E>;
  const std::vector<py::ssize_t> shape{u.shape(0), u.shape(1), table.shape(0) * u.shape(2)};
  const std::vector<E> in = elements<E>(u);
  std::vector<E> out = elements<E>(poisoned<T>(shape));
  const S4ConvRowsArgs<E> args{in.data(),  table.data(),       out.data(),
                               u.shape(0), table.shape(0),     u.shape(2),
                               u.shape(1), table.shape(2) - 3, gelu};
  auto scratch = poisoned<T>({cuda::s4_conv_rows_scratch(args)});
  check(cuda::s4_conv_rows_programs(args, scratch.mutable_data(), wide, start));
  return reals_of<E>(out, shape);
}

template <class T>
void bind(py::module_& m) {
  m.def("s4_conv_table", [](const ComplexArray<T>& spectrum, const std::optional<Array<T>>& D,
                            const std::string& order, uint64_t seed) {
    return table<T>(spectrum, D, {order_of(order), seed});
  });
  m.def("s4_conv_rows", [](const Array<T>& u, const Array<T>& table, bool gelu, bool wide,
                           const std::string& dtype, const std::string& order, uint64_t seed) {
    const Emulate start{order_of(order), seed};
    return with_element<T>(dtype, [&]<class E>() { return rows<E>(u, table, gelu, wide, start); });
  });
}

}  // namespace

void bind_s4_conv_rows(py::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace ecg::emulate

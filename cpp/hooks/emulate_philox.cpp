// SPDX-License-Identifier: MIT
#include "ecgcore/cuda/philox.h"
#include "emulate.h"

namespace ecg::emulate {
namespace {

template <class E>
py::array fill(const Array<int64_t>& records, uint64_t seed, int64_t draw, py::ssize_t size,
               bool normal, const Emulate& start) {
  const std::vector<py::ssize_t> shape{records.shape(0), size};
  std::vector<E> out = elements<E>(poisoned<RealOf<E>>(shape));
  const PhiloxKey key{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  check(start(
      cuda::Philox<E>{{records.data(), &draw, out.data(), records.shape(0), size, key, normal}}));
  return reals_of<E>(out, shape);
}

}  // namespace

void bind_philox(py::module_& m) {
  m.def("philox",
        [](const Array<int64_t>& records, uint64_t key, int64_t draw, py::ssize_t size, bool normal,
           const std::string& dtype, const std::string& order, uint64_t seed) -> py::array {
          const Emulate start{order_of(order), seed};
          const auto run = [&]<class E>() {
            return fill<E>(records, key, draw, size, normal, start);
          };
          if (dtype == "float64") return with_element<double>(dtype, run);
          return with_element<float>(dtype, run);
        });
}

}  // namespace ecg::emulate

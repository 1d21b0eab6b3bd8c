// SPDX-License-Identifier: MIT
#include "ecgcore/cuda/phase_shuffle.h"
#include "emulate.h"

namespace ecg::emulate {
namespace {

template <class E, bool kAdjoint>
py::array run(const Array<RealOf<E>>& in, const Array<int64_t>& shifts, const Emulate& start) {
  const std::vector<py::ssize_t> shape{in.shape(0), in.shape(1), in.shape(2)};
  const std::vector<E> from = elements<E>(in);
  std::vector<E> to = elements<E>(poisoned<RealOf<E>>(shape));
  check(start(cuda::PhaseShuffle<E, kAdjoint>{
      {from.data(), shifts.data(), to.data(), in.shape(0), in.shape(1), in.shape(2)}}));
  return reals_of<E>(to, shape);
}

template <class T, bool kAdjoint>
void bind(py::module_& m, const char* name) {
  m.def(name, [](const Array<T>& in, const Array<int64_t>& shifts, const std::string& dtype,
                 const std::string& order, uint64_t seed) {
    const Emulate start{order_of(order), seed};
    return with_element<T>(dtype, [&]<class E>() { return run<E, kAdjoint>(in, shifts, start); });
  });
}

}  // namespace

void bind_phase_shuffle(py::module_& m) {
  bind<float, false>(m, "phase_shuffle");
  bind<double, false>(m, "phase_shuffle");
  bind<float, true>(m, "phase_shuffle_adjoint");
  bind<double, true>(m, "phase_shuffle_adjoint");
}

}  // namespace ecg::emulate

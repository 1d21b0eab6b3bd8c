// SPDX-License-Identifier: MIT
#include <optional>

#include "ecgcore/cuda/s4_conv_backward.h"
#include "emulate.h"

namespace ecg::emulate {
namespace {

template <class E>
py::array forward(const Array<RealOf<E>>& u, const ComplexArray<RealOf<E>>& spectrum,
                  const std::optional<Array<RealOf<E>>>& D, bool gelu, const Emulate& start) {
  using T = RealOf<E>;
  const std::vector<py::ssize_t> shape{u.shape(0), spectrum.shape(0), u.shape(1), u.shape(2)};
  const std::vector<E> in = elements<E>(u);
  std::vector<E> out = elements<E>(poisoned<T>(shape));
  S4ConvArgs<E> args{};
  args.u = in.data();
  args.spectrum = reals(spectrum);
  args.D = D ? D->data() : nullptr;
  args.y = out.data();
  args.batch = u.shape(0);
  args.channels = spectrum.shape(0);
  args.features = u.shape(1);
  args.length = u.shape(2);
  args.n = 2 * (spectrum.shape(2) - 1);
  args.gelu = gelu;
  auto scratch = poisoned<T>({cuda::s4_conv_forward_scratch(args)});
  check(cuda::s4_conv_forward_programs(args, scratch.mutable_data(), start));
  return reals_of<E>(out, shape);
}

// Gradients of u, spectrum, D; those not wanted stay as they were: NaN.
template <class E>
py::tuple backward(const Array<RealOf<E>>& grad, const Array<RealOf<E>>& u,
                   const ComplexArray<RealOf<E>>& spectrum,
                   const std::optional<Array<RealOf<E>>>& D, bool gelu,
                   const std::vector<bool>& wanted, const Emulate& start) {
  using T = RealOf<E>;
  const std::vector<E> in = elements<E>(u), dy = elements<E>(grad);
  const std::vector<py::ssize_t> shape{u.shape(0), u.shape(1), u.shape(2)};
  std::vector<E> du = elements<E>(poisoned<T>(shape));
  auto dspectrum =
      poisoned<std::complex<T>>({spectrum.shape(0), spectrum.shape(1), spectrum.shape(2)});
  auto dD = poisoned<T>({spectrum.shape(0), spectrum.shape(1)});
  S4ConvBackwardArgs<E> args{};
  args.grad = dy.data();
  args.u = in.data();
  args.spectrum = reals(spectrum);
  args.D = D ? D->data() : nullptr;
  args.du = wanted.at(0) ? du.data() : nullptr;
  args.dspectrum = wanted.at(1) ? reals(dspectrum) : nullptr;
  args.dD = wanted.at(2) ? dD.mutable_data() : nullptr;
  args.batch = u.shape(0);
  args.channels = spectrum.shape(0);
  args.features = u.shape(1);
  args.length = u.shape(2);
  args.n = 2 * (spectrum.shape(2) - 1);
  args.gelu = gelu;
  auto scratch = poisoned<T>({cuda::s4_conv_backward_scratch(args)});
  check(cuda::s4_conv_backward_programs(args, scratch.mutable_data(), start));
  return py::make_tuple(reals_of<E>(du, shape), dspectrum, dD);
}

template <class T>
void bind(py::module_& m) {
  using Optional = std::optional<Array<T>>;
  m.def("s4_conv",
        [](const Array<T>& u, const ComplexArray<T>& spectrum, const Optional& D, bool gelu,
           const std::string& dtype, const std::string& order, uint64_t seed) {
          const Emulate start{order_of(order), seed};
          return with_element<T>(
              dtype, [&]<class E>() { return forward<E>(u, spectrum, D, gelu, start); });
        });
  m.def("s4_conv_backward", [](const Array<T>& grad, const Array<T>& u,
                               const ComplexArray<T>& spectrum, const Optional& D, bool gelu,
                               const std::vector<bool>& wanted, const std::string& dtype,
                               const std::string& order, uint64_t seed) {
    const Emulate start{order_of(order), seed};
    return with_element<T>(
        dtype, [&]<class E>() { return backward<E>(grad, u, spectrum, D, gelu, wanted, start); });
  });
}

}  // namespace

void bind_s4_conv(py::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace ecg::emulate

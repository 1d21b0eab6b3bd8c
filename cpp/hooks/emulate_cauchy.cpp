// SPDX-License-Identifier: MIT
#include "ecgcore/cuda/cauchy.h"
#include "emulate.h"

namespace ecg::emulate {
namespace {

template <class T>
void bind(py::module_& m) {
  m.def("cauchy", [](const ComplexArray<T>& v, const ComplexArray<T>& z, const ComplexArray<T>& w,
                     bool conjugate_pairs, const std::string& order, uint64_t seed) {
    auto out = poisoned<std::complex<T>>({v.shape(0), z.shape(0)});
    const CauchyArgs<T> args{reals(v),   reals(z),   reals(w),   reals(out),
                             v.shape(0), v.shape(1), z.shape(0), conjugate_pairs};
    cuda::cauchy_forward_programs(args, Emulate{order_of(order), seed});
    return out;
  });
  m.def("cauchy_backward", [](const ComplexArray<T>& grad, const ComplexArray<T>& v,
                              const ComplexArray<T>& z, const ComplexArray<T>& w,
                              bool conjugate_pairs, const std::string& order, uint64_t seed) {
    const py::ssize_t rows = v.shape(0), modes = v.shape(1), nodes = z.shape(0);
    auto dv = poisoned<std::complex<T>>({rows, modes});
    auto dz = poisoned<std::complex<T>>({nodes});
    auto dw = poisoned<std::complex<T>>({rows, modes});
    auto partial = poisoned<std::complex<T>>({cuda::cauchy_dz_chunks(rows), nodes});
    const CauchyBackwardArgs<T> args{reals(grad), reals(v),  reals(z),       reals(w),
                                     reals(dv),   reals(dw), reals(dz),      rows,
                                     modes,       nodes,     conjugate_pairs};
    cuda::cauchy_backward_programs(args, reals(partial), Emulate{order_of(order), seed});
    return py::make_tuple(dv, dz, dw);
  });
}

}  // namespace

void bind_cauchy(py::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace ecg::emulate

// SPDX-License-Identifier: MIT
#include "ecgcore/cuda/cauchy.h"
#include "ecgcore/cuda/launch.cuh"

namespace ecg::cuda {

template <class T>
Error cauchy_forward(const CauchyArgs<T>& args, Stream stream) {
  return cauchy_forward_programs(args,
                                 [&](const auto& program) { return launch(program, stream); });
}

template <class T>
Error cauchy_backward(const CauchyBackwardArgs<T>& args, T* partial, Stream stream) {
  return cauchy_backward_programs(args, partial,
                                  [&](const auto& program) { return launch(program, stream); });
}

template Error cauchy_forward(const CauchyArgs<float>&, Stream);
template Error cauchy_forward(const CauchyArgs<double>&, Stream);
template Error cauchy_backward(const CauchyBackwardArgs<float>&, float*, Stream);
template Error cauchy_backward(const CauchyBackwardArgs<double>&, double*, Stream);

}  // namespace ecg::cuda

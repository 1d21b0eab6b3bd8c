// SPDX-License-Identifier: MIT
#include "ecgcore/cuda/launch.cuh"
#include "ecgcore/cuda/s4_conv_backward.h"

namespace ecg::cuda {

template <class E>
Error s4_conv_forward(const S4ConvArgs<E>& args, RealOf<E>* scratch, Stream stream) {
  return s4_conv_forward_programs(args, scratch,
                                  [&](const auto& program) { return launch(program, stream); });
}

template <class E>
Error s4_conv_backward(const S4ConvBackwardArgs<E>& args, RealOf<E>* scratch, Stream stream) {
  return s4_conv_backward_programs(args, scratch,
                                   [&](const auto& program) { return launch(program, stream); });
}

#define ECG_INSTANTIATE(E)                                                  \
  template Error s4_conv_forward(const S4ConvArgs<E>&, RealOf<E>*, Stream); \
  template Error s4_conv_backward(const S4ConvBackwardArgs<E>&, RealOf<E>*, Stream);
ECG_INSTANTIATE(float)
ECG_INSTANTIATE(double)
ECG_INSTANTIATE(Float16)
ECG_INSTANTIATE(BFloat16)

}  // namespace ecg::cuda

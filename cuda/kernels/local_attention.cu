// SPDX-License-Identifier: MIT
#include "ecgcore/cuda/launch.cuh"
#include "ecgcore/cuda/local_attention_backward.h"

namespace ecg::cuda {

template <class E>
Error local_attention_forward(const LocalAttentionArgs<E>& args, Stream stream) {
  return local_attention_forward_programs(
      args, [&](const auto& program) { return launch(program, stream); });
}

template <class E>
Error local_attention_backward(const LocalAttentionBackwardArgs<E>& args, RealOf<E>* scratch,
                               Stream stream) {
  return local_attention_backward_programs(
      args, scratch, [&](const auto& program) { return launch(program, stream); });
}

#define ECG_INSTANTIATE(E)                                                      \
  template Error local_attention_forward(const LocalAttentionArgs<E>&, Stream); \
  template Error local_attention_backward(const LocalAttentionBackwardArgs<E>&, RealOf<E>*, Stream);
ECG_INSTANTIATE(float)
ECG_INSTANTIATE(double)
ECG_INSTANTIATE(Float16)
ECG_INSTANTIATE(BFloat16)

}  // namespace ecg::cuda

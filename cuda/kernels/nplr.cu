// SPDX-License-Identifier: MIT
#include "ecgcore/cuda/launch.cuh"
#include "ecgcore/cuda/nplr_time.h"

namespace ecg::cuda {

template <class T>
Error nplr_nodes(const NplrNodesArgs<T>& args, Stream stream) {
  return launch(NplrNodes<T>{args}, stream);
}

template <class T>
Error nplr_forward(const NplrArgs<T>& args, T* scratch, Stream stream) {
  return nplr_forward_programs(args, scratch,
                               [&](const auto& program) { return launch(program, stream); });
}

template <class T>
Error nplr_backward(const NplrBackwardArgs<T>& args, T* scratch, Stream stream) {
  return nplr_backward_programs(args, scratch,
                                [&](const auto& program) { return launch(program, stream); });
}

template <class T>
Error nplr_kernel(const NplrKernelArgs<T>& args, T* scratch, Stream stream) {
  return nplr_kernel_programs(args, scratch,
                              [&](const auto& program) { return launch(program, stream); });
}

template <class T>
Error nplr_kernel_backward(const NplrKernelBackwardArgs<T>& args, T* scratch, Stream stream) {
  return nplr_kernel_backward_programs(
      args, scratch, [&](const auto& program) { return launch(program, stream); });
}

template <class T>
Error nplr_sum_features(const NplrSumArgs<T>& args, int64_t rows, Stream stream) {
  return launch(NplrSumFeatures<T>{args, rows}, stream);
}

#define ECG_INSTANTIATE(T)                                                           \
  template Error nplr_nodes(const NplrNodesArgs<T>&, Stream);                        \
  template Error nplr_forward(const NplrArgs<T>&, T*, Stream);                       \
  template Error nplr_backward(const NplrBackwardArgs<T>&, T*, Stream);              \
  template Error nplr_kernel(const NplrKernelArgs<T>&, T*, Stream);                  \
  template Error nplr_kernel_backward(const NplrKernelBackwardArgs<T>&, T*, Stream); \
  template Error nplr_sum_features(const NplrSumArgs<T>&, int64_t, Stream);
ECG_INSTANTIATE(float)
ECG_INSTANTIATE(double)

}  // namespace ecg::cuda

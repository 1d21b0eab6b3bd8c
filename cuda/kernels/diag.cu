// SPDX-License-Identifier: MIT
#include "ecgcore/cuda/diag.h"
#include "ecgcore/cuda/launch.cuh"

namespace ecg::cuda {

template <class Args>
Error diag(const Args& args, double* scratch, Stream stream) {
  return diag_programs(args, scratch, [&](const auto& program) { return launch(program, stream); });
}

#define ECG_INSTANTIATE(T)                                  \
  template Error diag(const DiagArgs<T>&, double*, Stream); \
  template Error diag(const DiagBackwardArgs<T>&, double*, Stream);
ECG_INSTANTIATE(float)
ECG_INSTANTIATE(double)

}  // namespace ecg::cuda

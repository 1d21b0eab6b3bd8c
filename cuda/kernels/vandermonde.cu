// SPDX-License-Identifier: MIT
#include "ecgcore/cuda/launch.cuh"
#include "ecgcore/cuda/vandermonde.h"

namespace ecg::cuda {

template <class Args>
Error vandermonde(const Args& args, double* scratch, Stream stream) {
  return vandermonde_programs(args, scratch,
                              [&](const auto& program) { return launch(program, stream); });
}

#define ECG_INSTANTIATE(T)                                                         \
  template Error vandermonde(const VandermondeArgs<T>&, double*, Stream);          \
  template Error vandermonde(const VandermondeBackwardArgs<T>&, double*, Stream);  \
  template Error vandermonde(const VandermondeTransposeArgs<T>&, double*, Stream); \
  template Error vandermonde(const VandermondeTransposeBackwardArgs<T>&, double*, Stream);
ECG_INSTANTIATE(float)
ECG_INSTANTIATE(double)

}  // namespace ecg::cuda

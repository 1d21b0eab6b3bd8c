// SPDX-License-Identifier: MIT
#include "ecgcore/cuda/launch.cuh"
#include "ecgcore/cuda/residual_update.h"

namespace ecg::cuda {

template <class T>
Error residual_update_forward(const ResidualUpdateArgs<T>& args, Stream stream) {
  return launch(ResidualUpdate<T>{args}, stream);
}

template Error residual_update_forward(const ResidualUpdateArgs<float>&, Stream);
template Error residual_update_forward(const ResidualUpdateArgs<double>&, Stream);

}  // namespace ecg::cuda

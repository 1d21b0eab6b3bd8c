// SPDX-License-Identifier: MIT
#include "ecgcore/cuda/add_layer_norm.h"
#include "ecgcore/cuda/launch.cuh"

namespace ecg::cuda {

template <class T>
Error add_layer_norm_forward(const AddLayerNormArgs<T>& args, Stream stream) {
  return launch(AddLayerNorm<T>{args}, stream);
}

template Error add_layer_norm_forward(const AddLayerNormArgs<float>&, Stream);
template Error add_layer_norm_forward(const AddLayerNormArgs<double>&, Stream);

}  // namespace ecg::cuda

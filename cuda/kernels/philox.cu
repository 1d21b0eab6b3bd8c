// SPDX-License-Identifier: MIT
#include "ecgcore/cuda/launch.cuh"
#include "ecgcore/cuda/philox.h"

namespace ecg::cuda {

template <class E>
Error philox_fill(const PhiloxArgs<E>& args, Stream stream) {
  return launch(Philox<E>{args}, stream);
}
template Error philox_fill(const PhiloxArgs<float>&, Stream);
template Error philox_fill(const PhiloxArgs<double>&, Stream);
template Error philox_fill(const PhiloxArgs<Float16>&, Stream);
template Error philox_fill(const PhiloxArgs<BFloat16>&, Stream);

}  // namespace ecg::cuda

// SPDX-License-Identifier: MIT
#include "ecgcore/cuda/launch.cuh"
#include "ecgcore/cuda/phase_shuffle.h"

namespace ecg::cuda {

template <class E>
Error phase_shuffle_forward(const PhaseShuffleArgs<E>& args, Stream stream) {
  return launch(PhaseShuffle<E, false>{args}, stream);
}

template <class E>
Error phase_shuffle_adjoint(const PhaseShuffleArgs<E>& args, Stream stream) {
  return launch(PhaseShuffle<E, true>{args}, stream);
}

#define ECG_INSTANTIATE(E)                                                  \
  template Error phase_shuffle_forward(const PhaseShuffleArgs<E>&, Stream); \
  template Error phase_shuffle_adjoint(const PhaseShuffleArgs<E>&, Stream);
ECG_INSTANTIATE(float)
ECG_INSTANTIATE(double)
ECG_INSTANTIATE(Float16)
ECG_INSTANTIATE(BFloat16)

}  // namespace ecg::cuda

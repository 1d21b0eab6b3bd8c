// SPDX-License-Identifier: MIT
#pragma once

#include "backend_cuda.h"
#include "ecgcore/cuda/phase_shuffle.h"
#include "torch/ops/phase_shuffle.h"

namespace ecg::torch_abi {

template <class E>
struct PhaseShuffleRun<Cuda, E> {
  static void forward(const Check&, const PhaseShuffleArgs<E>& args) {
    Cuda::check(cuda::phase_shuffle_forward(args, Cuda::stream()), "phase_shuffle");
  }
  static void adjoint(const Check&, const PhaseShuffleArgs<E>& args) {
    Cuda::check(cuda::phase_shuffle_adjoint(args, Cuda::stream()), "phase_shuffle_adjoint");
  }
};

}  // namespace ecg::torch_abi

// SPDX-License-Identifier: MIT
#include "ecgcore/cuda/launch.cuh"
#include "ecgcore/cuda/ssm_step.h"

namespace ecg::cuda {

template <class T>
Error ssm_step_forward(const SsmStepArgs<T>& args, Stream stream) {
  return launch(SsmStepForward<T>{args}, stream);
}

template <class T>
Error ssm_step_backward(const SsmStepBackwardArgs<T>& args, Stream stream) {
  return ssm_step_backward_programs(args,
                                    [&](const auto& program) { return launch(program, stream); });
}

template Error ssm_step_forward(const SsmStepArgs<float>&, Stream);
template Error ssm_step_forward(const SsmStepArgs<double>&, Stream);
template Error ssm_step_backward(const SsmStepBackwardArgs<float>&, Stream);
template Error ssm_step_backward(const SsmStepBackwardArgs<double>&, Stream);

}  // namespace ecg::cuda

// SPDX-License-Identifier: MIT
//
// Launching block programs: grid arithmetic, shared memory beyond 48 KB, launch errors as text.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>

#include "ecgcore/cuda/block.cuh"
#include "ecgcore/cuda/stream.h"

namespace ecg::cuda {

inline Error error_text(cudaError_t status) {
  return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

// Queues the program on the stream. Returns nullptr, or CUDA's text when the launch was refused.
template <class Program>
Error launch(const Program& program, Stream stream) {
  const int64_t blocks = program.blocks();
  if (blocks <= 0) return nullptr;
  const size_t shared = program.shared_bytes();
  const auto kernel = reinterpret_cast<const void*>(&run_blocks<Program>);
  if (shared > 48 * 1024) {
    const cudaError_t status = cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    if (status != cudaSuccess) return error_text(status);
  }
  // A grid has at most 2³¹ - 1 blocks; run_blocks strides over the rest.
  int64_t grid = std::min<int64_t>(blocks, 0x7fffffff);
  if constexpr (requires { program.max_grid(); }) grid = std::min(grid, program.max_grid());
  void* arguments[] = {const_cast<Program*>(&program)};
  return error_text(cudaLaunchKernel(kernel, dim3(static_cast<unsigned>(grid)),
                                     dim3(Program::kThreads), arguments, shared,
                                     static_cast<cudaStream_t>(stream)));
}

}  // namespace ecg::cuda

// SPDX-License-Identifier: MIT
//
// Block programs (math/block.h) on the device.
#pragma once

#include <cuda_runtime.h>

#include "ecgcore/math/block.h"

namespace ecg::cuda {

// One value a thread: a plain local variable, so that it lives in registers.
template <class State>
struct DeviceRegisters {
  State state;
  ECG_HD State& operator[](int) { return state; }
};

// Members are declared for the host too because program bodies are; only the device ever calls
// them.
class DeviceBlock {
 public:
  ECG_HD DeviceBlock(int64_t index, unsigned char* shared) : index_(index), shared_(shared) {}

  ECG_HD int64_t index() const { return index_; }

  template <class S>
  ECG_HD S* shared(int64_t count) {
    unsigned char* begin = shared_;
    shared_ += SharedSize::padded(count * static_cast<int64_t>(sizeof(S)));
    return reinterpret_cast<S*>(begin);
  }

  template <class State>
  ECG_HD DeviceRegisters<State> registers() {
    return {};
  }

  template <class Body>
  ECG_HD void phase(const Body& body) {
#if defined(__CUDA_ARCH__)
    body(static_cast<int>(threadIdx.x));
    __syncthreads();
#endif
  }

 private:
  int64_t index_;
  unsigned char* shared_;
};

// From sm_100 on the compiler asks for more registers: one block less, rather than spills.
template <class Program>
constexpr int blocks_per_sm() {
  if constexpr (requires { Program::kBlocksPerSm; }) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
    return Program::kBlocksPerSm > 1 ? Program::kBlocksPerSm - 1 : 1;
#else
    return Program::kBlocksPerSm;
#endif
  } else {
    return 1;
  }
}

// Every phase ends with a barrier, so shared memory is free again when the next block of work
// begins.
template <class Program>
__global__ void __launch_bounds__(Program::kThreads, blocks_per_sm<Program>())
    run_blocks(const __grid_constant__ Program program) {
  extern __shared__ __align__(16) unsigned char shared[];
  const int64_t blocks = program.blocks();
  for (int64_t index = blockIdx.x; index < blocks; index += gridDim.x) {
    DeviceBlock block(index, shared);
    program(block);
  }
}

}  // namespace ecg::cuda

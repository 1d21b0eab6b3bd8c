// SPDX-License-Identifier: MIT
//
// What an adapter asks of a device, answered for the CPU: where its tensors live and how the rows
// of a kernel are split over threads. cuda/torch/backend_cuda.h answers the same for CUDA.
#pragma once

#include "tensor.h"

namespace ecg::torch_abi {

struct Cpu {
  static constexpr const char* kKey = "CPU";

  // A range of rows small enough to balance, large enough to be worth a thread: `cost` is the work
  // of one row in elementary operations.
  template <class Body>
  static void rows(int64_t count, int64_t cost, const Body& body) {
    constexpr int64_t kWorthAThread = 1 << 15;
    parallel_for(count, kWorthAThread / (cost > 0 ? cost : 1), body);
  }
};

}  // namespace ecg::torch_abi

// SPDX-License-Identifier: MIT
//
// What an adapter asks of a device, answered for the CPU: where its tensors live and how the rows
// of a kernel are split over threads. cuda/torch/backend_cuda.h answers the same for CUDA.
#pragma once

#include <algorithm>
#include <memory>
#include <new>

#include "tensor.h"

namespace ecg::torch_abi {

// Memory a CPU kernel works in: one a thread, kept between calls so that its pages are faulted in
// only once.
class Scratch {
 public:
  template <class T>
  static T* of(int64_t count) {
    static thread_local Scratch scratch;
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    if (scratch.bytes_ < bytes) {
      scratch.memory_.reset();
      scratch.bytes_ = 0;
      scratch.memory_.reset(::operator new(bytes, std::align_val_t{64}));
      scratch.bytes_ = bytes;
    }
    return static_cast<T*>(scratch.memory_.get());
  }

 private:
  struct Free {
    void operator()(void* memory) const { ::operator delete(memory, std::align_val_t{64}); }
  };
  std::unique_ptr<void, Free> memory_;
  size_t bytes_ = 0;
};

struct Cpu {
  static constexpr const char* kKey = "CPU";

  // A range of rows small enough to balance, large enough to be worth a thread: `cost` is the work
  // of one row in elementary operations.
  template <class Body>
  static void rows(int64_t count, int64_t cost, const Body& body) {
    parallel_for(count, kWorthAThread / (cost > 0 ? cost : 1), body);
  }

  // body(scratch, begin, end) for rows that need scratch memory: one contiguous part of the rows,
  // and one piece of `size` numbers, for each thread that has enough to do.
  template <class T = double, class Body>
  static void rows_with_scratch(int64_t count, int64_t cost, int64_t size, const Body& body) {
    uint32_t threads;
    ECG_TORCH(torch_get_num_threads, &threads);
    const int64_t busy = std::max<int64_t>(1, count * std::max<int64_t>(cost, 1) / kWorthAThread);
    const int64_t parts = std::min({count, static_cast<int64_t>(threads), busy});
    parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
      body(Scratch::of<T>(size), count * begin / parts, count * end / parts);
    });
  }

 private:
  static constexpr int64_t kWorthAThread = 1 << 15;
};

}  // namespace ecg::torch_abi

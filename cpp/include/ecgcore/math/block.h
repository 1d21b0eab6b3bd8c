// SPDX-License-Identifier: MIT
//
// Block programs: kernels with shared memory, written so that one body runs on a CUDA block and on
// the host.
//
// A block program is a struct that holds its arguments by value and offers
//
//   static constexpr int kThreads      threads of one block
//   static constexpr int kBlocksPerSm  optional: registers are limited so that so many fit
//   int64_t blocks() const             how many blocks the work has; a grid strides over any number
//   int64_t max_grid() const           optional: no more blocks than this run at a time, so that
//                                      block i may use place i % max_grid() of some scratch memory
//   size_t shared_bytes() const        what the body's shared() calls take, see SharedSize
//   void operator()(Block&) const      the work of one block, a template over Block
//
// All control flow in the body is uniform over the block; what threads do one by one stands in
// phases, with a barrier after each:
//
//   T* tile = block.template shared<T>(count);      // an array for the block, before any phase
//   auto mine = block.template registers<State>();  // a State for each thread, kept between phases
//   block.phase([&](int thread) { tile[thread] = mine[thread].x; });
//
// On the device (cuda/include/ecgcore/cuda/block.cuh) a phase is its body followed by
// __syncthreads(). On the host (cuda/include/ecgcore/cuda/emulator.h) it is a loop over the threads
// in forward, reverse or random order, with shared memory and registers poisoned: an index out of
// range, a read of memory nobody wrote and most races within a phase change the result or fail
// there, without a GPU.
//
// Rules: a phase writes to shared memory and global memory what no other thread of that phase
// touches; values of one thread that outlive a phase are kept in registers(), never in a local
// variable of operator().
#pragma once

#include <cstddef>
#include <cstdint>

#include "ecgcore/math/config.h"

// Before a loop whose trip count is a constant: registers can be indexed only so. By four where the
// compiler would unroll a long loop in full, and pay in registers.
#if defined(__CUDA_ARCH__)
#define ECG_UNROLL _Pragma("unroll")
#define ECG_UNROLL_4 _Pragma("unroll 4")
#else
#define ECG_UNROLL
#define ECG_UNROLL_4
#endif

// A function that stays a function on the device: large, and used in many places.
#if defined(__CUDACC__)
#define ECG_HD_CALL __host__ __device__ __noinline__
#else
#define ECG_HD_CALL inline
#endif

namespace ecg {

// Adds up the shared memory of a program, by the rule by which blocks hand it out: arrays start at
// multiples of 16 bytes.
class SharedSize {
 public:
  template <class S>
  ECG_HD SharedSize& add(int64_t count) {
    bytes_ += padded(count * static_cast<int64_t>(sizeof(S)));
    return *this;
  }
  ECG_HD size_t bytes() const { return static_cast<size_t>(bytes_); }

  static ECG_HD int64_t padded(int64_t bytes) { return (bytes + 15) / 16 * 16; }

 private:
  int64_t bytes_ = 0;
};

ECG_HD int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Sums an array of kThreads values in shared memory, `groups` at a time: value[lane] += value[lane
// + k * lanes] for all k, lanes = kThreads / groups, as a tree of fixed shape; groups is a power of
// two. The sums are in value[0 .. lanes).
template <int kThreads, class Block, class S>
ECG_HD void sum_groups(Block& block, S* value, int groups) {
  const int lanes = kThreads / groups;
  for (int half = groups / 2; half > 0; half /= 2) {
    block.phase([&](int thread) {
      if (thread < half * lanes) value[thread] += value[thread + half * lanes];
    });
  }
}

}  // namespace ecg

// SPDX-License-Identifier: MIT
//
// Where transforms keep their points and tables: shared memory or slots of scratch, and scratch.
#pragma once

#include "ecgcore/cuda/fft.h"
#include "ecgcore/cuda/stream.h"

namespace ecg::cuda {

// Shared memory every device from sm_80 on gives to one block on request (99 KB on sm_86, sm_89 and
// sm_120, more on sm_80, sm_90 and sm_100).
inline constexpr int64_t kFftSharedBytes = 99 * 1024;
// Blocks at work at a time where points lie in global memory: so many slots of scratch.
inline constexpr int64_t kFftSlots = 256;

// Where a block keeps `arrays` sequences of n points.
template <class T>
struct FftMemory {
  T* slots;  // null: shared memory; else (kFftSlots, arrays, padded points) complex
  int arrays;

  static int64_t bytes(int64_t n, int arrays) {
    return arrays * FftPoints<T>::size(n) * static_cast<int64_t>(sizeof(Stored<T>));
  }
  static bool shared(int64_t n, int arrays) { return bytes(n, arrays) <= kFftSharedBytes; }
  // Scratch, in elements of T.
  static int64_t scratch(int64_t n, int arrays) {
    return shared(n, arrays) ? 0 : 2 * kFftSlots * arrays * FftPoints<T>::size(n);
  }

  size_t shared_bytes(int64_t n) const {
    SharedSize size;
    if (slots == nullptr) size.add<Stored<T>>(arrays * FftPoints<T>::size(n));
    return size.bytes();
  }
  template <class Block>
  ECG_HD Stored<T>* place(Block& block, int64_t n) const {
    const int64_t size = arrays * FftPoints<T>::size(n);
    if (slots == nullptr) return block.template shared<Stored<T>>(size);
    return reinterpret_cast<Stored<T>*>(slots) + block.index() % kFftSlots * size;
  }
};

// Scratch of a call: the tables of the transform, then slots for points in global memory.
template <class T>
struct FftScratch {
  static int64_t tables(const FftLayout<T>& layout) {
    const int64_t positions = ceil_div(layout.n * static_cast<int64_t>(sizeof(int32_t)), sizeof(T));
    return 2 * (fft_twiddle_count(layout) + ceil_div(positions, 2));
  }
  // Places the tables in scratch and starts the program that fills them.
  template <class Start>
  static Error fill(FftLayout<T>& layout, T* scratch, const Start& start) {
    const auto positions = reinterpret_cast<int32_t*>(scratch + 2 * fft_twiddle_count(layout));
    layout.twiddles = scratch;
    layout.positions = positions;
    return start(FftTables<T>{layout, scratch, positions});
  }
};

inline Error fft_unsupported() {
  return "the transform length must have no prime factor above 7 and be at most 2^30";
}

}  // namespace ecg::cuda

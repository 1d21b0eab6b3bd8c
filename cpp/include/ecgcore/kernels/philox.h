// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "ecgcore/kernels/cpu_level.h"
#include "ecgcore/math/half.h"
#include "ecgcore/math/philox.h"

namespace ecg {

// Row i of out is the noise of record records[i], its draw *draw: normal, or uniform in [-1, 1].
// E is what is stored; the arithmetic is double.
template <class E>
struct PhiloxArgs {
  const int64_t* records;  // (count,), none negative
  const int64_t* draw;     // one number in [0, 2^32)
  E* out;                  // (count, size)
  int64_t count, size;
  PhiloxKey key;
  bool normal;
};

// The CPU kernel works on a range of the count * ceil(size / kPhiloxPiece) pieces.
inline constexpr int64_t kPhiloxPiece = 1024;

template <class E>
struct PhiloxKernels {
  void (*fill)(const PhiloxArgs<E>&, int64_t begin, int64_t end);
};

}  // namespace ecg

ECG_KERNEL_TABLE(PhiloxKernels, philox_kernels)

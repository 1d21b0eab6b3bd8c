// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "ecgcore/kernels/cpu_level.h"
#include "ecgcore/math/half.h"

namespace ecg {

// out[b, c, i] = in[b, c, reflect(i − shifts[b])], or the adjoint: out[b, c, p] = Σ in[b, c, i]
// over all i that read p. E is float, double, Float16 or BFloat16.
template <class E>
struct PhaseShuffleArgs {
  const E* in;            // (batch, channels, length)
  const int64_t* shifts;  // (batch), each below length in magnitude
  E* out;                 // (batch, channels, length)
  int64_t batch, channels, length;
};

// CPU kernels work on a range of the batch * channels rows.
template <class E>
struct PhaseShuffleKernels {
  void (*forward)(const PhaseShuffleArgs<E>&, int64_t row_begin, int64_t row_end);
  void (*adjoint)(const PhaseShuffleArgs<E>&, int64_t row_begin, int64_t row_end);
};

}  // namespace ecg

ECG_KERNEL_TABLE(PhaseShuffleKernels, phase_shuffle_kernels)

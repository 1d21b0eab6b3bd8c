// SPDX-License-Identifier: MIT
//
// Phase shuffle as a block program, and its launchers: a block takes a tile of one sample, a thread
// some of its elements, each one read, or two in the adjoint, and one write.
#pragma once

#include <cmath>

#include "ecgcore/cuda/element.h"
#include "ecgcore/cuda/stream.h"
#include "ecgcore/cuda/tile.h"
#include "ecgcore/kernels/phase_shuffle.h"
#include "ecgcore/math/phase_shuffle.h"

namespace ecg::cuda {

template <class E, bool kAdjoint>
struct PhaseShuffle {
  using T = RealOf<E>;
  static constexpr int kThreads = kTileThreads;
  PhaseShuffleArgs<E> args;

  ECG_HD SampleTiles tiles() const { return {args.batch, args.channels, args.length}; }
  ECG_HD int64_t blocks() const { return tiles().count(); }
  size_t shared_bytes() const { return 0; }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    block.phase([&](int thread) {
      const int64_t length = args.length;
      const int64_t k = args.shifts[block.index() / tiles().of_sample()];
      // What the CPU refuses: nobody can be told without waiting for the device, so it shows.
      const bool valid = -length < k && k < length;
      tiles().each(block.index(), thread, [&](int64_t, int64_t at, int64_t i) {
        const E* row = args.in + (at - i);
        T value = T(NAN);
        if (valid && !kAdjoint) value = load_element(row, reflect(i - k, length));
        if (valid && kAdjoint) {
          const int64_t first = i + k, second = reflected_reader(i, k, length);
          value = T(0);
          if (0 <= first && first < length) value = load_element(row, first);
          if (second >= 0) value += load_element(row, second);
        }
        store_element(args.out, at, value);
      });
    });
  }
};

// Queue on a stream; all pointers are device memory. A sample whose shift is not below the length
// becomes NaN.
template <class E>
Error phase_shuffle_forward(const PhaseShuffleArgs<E>& args, Stream stream);
template <class E>
Error phase_shuffle_adjoint(const PhaseShuffleArgs<E>& args, Stream stream);

}  // namespace ecg::cuda

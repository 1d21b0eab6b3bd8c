// SPDX-License-Identifier: MIT
//
// The end of a residual block as a block program, and its launcher: a thread takes some elements of
// rs, each of which is read once.
#pragma once

#include "ecgcore/cuda/stream.h"
#include "ecgcore/cuda/tile.h"
#include "ecgcore/kernels/residual_update.h"
#include "ecgcore/math/layer_norm.h"

namespace ecg::cuda {

template <class T>
struct ResidualUpdate {
  static constexpr int kThreads = kTileThreads;
  ResidualUpdateArgs<T> args;

  ECG_HD SampleTiles tiles() const {
    return {args.batch, args.length, args.residual + args.skipped};
  }
  ECG_HD int64_t blocks() const { return tiles().count(); }
  size_t shared_bytes() const { return 0; }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    block.phase([&](int thread) {
      const int64_t b = block.index() / tiles().of_sample();
      tiles().each(block.index(), thread, [&](int64_t row, int64_t, int64_t i) {
        const int64_t l = row - b * args.length;
        const T added = args.rs[b * args.rs_batch + l * args.rs_row + i];
        if (i >= args.residual) {
          T* skip = args.skip + b * args.skip_batch + l * args.skip_row + (i - args.residual);
          *skip = args.first ? added : *skip + added;
          return;
        }
        T* x = args.x + b * args.x_batch + l * args.x_row + i;
        *x = residual_sum(*x, added);
        if (args.padded == nullptr) return;
        const T step = args.step == nullptr ? T(0) : args.step[b * args.step_batch + i];
        args.padded[b * args.padded_batch + l * args.padded_row + i] = *x + step;
      });
    });
  }
};

// Queues on a stream; all pointers are device memory.
template <class T>
Error residual_update_forward(const ResidualUpdateArgs<T>& args, Stream stream);

}  // namespace ecg::cuda

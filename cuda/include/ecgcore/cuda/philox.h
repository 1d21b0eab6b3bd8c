// SPDX-License-Identifier: MIT
//
// Counter-based noise as a block program, and its launcher: a block takes a piece of one record, a
// thread four neighbouring numbers.
#pragma once

#include <cmath>

#include "ecgcore/cuda/element.h"
#include "ecgcore/cuda/stream.h"
#include "ecgcore/kernels/philox.h"
#include "ecgcore/math/block.h"

namespace ecg::cuda {

template <class E>
struct Philox {
  static constexpr int kThreads = kPhiloxPiece / 4;
  PhiloxArgs<E> args;

  ECG_HD int64_t pieces() const { return ceil_div(args.size, kPhiloxPiece); }
  ECG_HD int64_t blocks() const { return args.count * pieces(); }
  size_t shared_bytes() const { return 0; }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    block.phase([&](int thread) {
      const int64_t row = block.index() / pieces();
      const int64_t first = block.index() % pieces() * kPhiloxPiece + 4 * thread;
      const int64_t record = args.records[row], draw = *args.draw;
      // What the CPU refuses: nobody can be told without waiting for the device, so it shows.
      const bool valid = record >= 0 && 0 <= draw && draw <= 0xffffffff;
      uint64_t word[4] = {static_cast<uint64_t>(first / 4), static_cast<uint64_t>(draw),
                          static_cast<uint64_t>(record) & 0xffffffffu,
                          static_cast<uint64_t>(record) >> 32};
      double number[4];
      philox_numbers(word, args.key, args.normal, number);
      for (int k = 0; k < 4 && first + k < args.size; ++k) {
        store_element(args.out, row * args.size + first + k,
                      static_cast<RealOf<E>>(valid ? number[k] : static_cast<double>(NAN)));
      }
    });
  }
};

// Queues on a stream; all pointers are device memory. Rows of negative records, and all rows for a
// draw out of range, become NaN.
template <class E>
Error philox_fill(const PhiloxArgs<E>& args, Stream stream);

}  // namespace ecg::cuda

// SPDX-License-Identifier: MIT
//
// The long convolution of S4 as block programs, and their launchers.
//
// Forward, one launch: a block takes two rows as one complex sequence of n points through fft.h:
// load and first stage, stages in shared memory, product with the kernels' spectra on bin pairs (k,
// n − k), stages back, last stage with activation and store. A row is read once and written once.
// The skip D u rides on the spectrum, K + D. Rows are paired over the batch, so that both use one
// spectrum; the last batch row of an odd batch pairs features instead. Backward:
// s4_conv_backward.h. docs/cuda.md has the counts.
//
// Rows whose points exceed kFftSharedBytes work in global memory instead, the same program.
#pragma once

#include "ecgcore/cuda/element.h"
#include "ecgcore/cuda/fft_memory.h"
#include "ecgcore/kernels/s4_conv.h"
#include "ecgcore/math/activation.h"

namespace ecg::cuda {

// A kernel's spectrum plus its skip at bin k.
template <class T>
ECG_HD Complex<T> s4_conv_bin(const T* spectrum, const T* D, int64_t row, int k, int half) {
  Complex<T> out = fft_real_bin(spectrum, row, k, 2 * half);
  if (D != nullptr) out.re += D[row];
  return out;
}

template <class E>
struct S4ConvForward {
  using T = RealOf<E>;
  static constexpr int kThreads = 256;
  static constexpr int kBlocksPerSm = sizeof(T) == sizeof(float) ? 4 : 2;
  S4ConvArgs<E> args;
  FftLayout<T> layout;
  FftMemory<T> memory;

  ECG_HD int64_t paired() const { return args.batch / 2 * args.features; }
  ECG_HD int64_t per_channel() const {
    return paired() + args.batch % 2 * ceil_div(args.features, 2);
  }
  ECG_HD int64_t blocks() const { return args.channels * per_channel(); }
  int64_t max_grid() const { return memory.slots == nullptr ? blocks() : kFftSlots; }
  size_t shared_bytes() const { return memory.shared_bytes(layout.n); }

  // Two rows (b, h) of u; `both` false: only the first.
  struct Rows {
    int64_t b[2], h[2];
    bool both;
  };
  ECG_HD Rows rows(int64_t pair) const {
    if (pair < paired()) {
      const int64_t h = pair / (args.batch / 2), b = pair % (args.batch / 2) * 2;
      return {{b, b + 1}, {h, h}, true};
    }
    const int64_t h = (pair - paired()) * 2, b = args.batch - 1;
    return {{b, b}, {h, h + 1}, h + 1 < args.features};
  }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    const FftPoints<T> z(memory.place(block, layout.n));
    const int64_t channel = block.index() / per_channel();
    const Rows two = rows(block.index() % per_channel());
    const int length = static_cast<int>(args.length), n = layout.n, half = n / 2;
    const int64_t in0 = (two.b[0] * args.features + two.h[0]) * length;
    const int64_t in1 = (two.b[1] * args.features + two.h[1]) * length;
    block.phase([&](int thread) {
      fft_first_stage<kThreads>(layout, z, thread, [&](int t) -> Complex<T> {
        if (t >= length) return {T(0), T(0)};
        return {load_element(args.u, in0 + t), two.both ? load_element(args.u, in1 + t) : T(0)};
      });
    });
    fft_inner_forward<kThreads>(block, layout, z);

    const int64_t kernel0 = channel * args.features + two.h[0];
    const int64_t kernel1 = two.both ? channel * args.features + two.h[1] : kernel0;
    block.phase([&](int thread) {
      const T scale = T(1) / static_cast<T>(n);
      for (int k = thread; k <= half; k += kThreads) {
        const int at = layout.positions[k], mirror = layout.positions[k == 0 ? 0 : n - k];
        FftBinPair<T> bins = fft_rows(z.load(at), z.load(mirror));
        const Complex<T> K0 = s4_conv_bin(args.spectrum, args.D, kernel0, k, half);
        const Complex<T> K1 =
            kernel1 == kernel0 ? K0 : s4_conv_bin(args.spectrum, args.D, kernel1, k, half);
        bins = {scale * (K0 * bins.row0), scale * (K1 * bins.row1)};
        z.store(at, fft_at(bins));
        if (mirror != at) z.store(mirror, fft_mirror(bins));
      }
    });

    fft_inner_backward<kThreads>(block, layout, z);
    const int64_t out0 = ((two.b[0] * args.channels + channel) * args.features + two.h[0]) * length;
    const int64_t out1 = ((two.b[1] * args.channels + channel) * args.features + two.h[1]) * length;
    block.phase([&](int thread) {
      fft_last_stage<kThreads>(layout, z, thread, [&](int t, Complex<T> x) {
        if (t >= length) return;
        store_element(args.y, out0 + t, args.gelu ? gelu(x.re) : x.re);
        if (two.both) store_element(args.y, out1 + t, args.gelu ? gelu(x.im) : x.im);
      });
    });
  }
};

template <class E>
int64_t s4_conv_forward_scratch(const S4ConvArgs<E>& args) {
  using T = RealOf<E>;
  return FftScratch<T>::tables(fft_layout<T>(args.n)) + FftMemory<T>::scratch(args.n, 1);
}

template <class E, class Start>
Error s4_conv_forward_programs(const S4ConvArgs<E>& args, RealOf<E>* scratch, const Start& start) {
  using T = RealOf<E>;
  FftLayout<T> layout = fft_layout<T>(args.n);
  if (layout.stages == 0) return fft_unsupported();
  if (const Error error = FftScratch<T>::fill(layout, scratch, start)) return error;
  T* slots = FftMemory<T>::shared(args.n, 1) ? nullptr : scratch + FftScratch<T>::tables(layout);
  return start(S4ConvForward<E>{args, layout, {slots, 1}});
}

// Queue on a stream; all pointers are device memory. n is made of 2, 3, 5 and 7.
template <class E>
Error s4_conv_forward(const S4ConvArgs<E>& args, RealOf<E>* scratch, Stream stream);

}  // namespace ecg::cuda

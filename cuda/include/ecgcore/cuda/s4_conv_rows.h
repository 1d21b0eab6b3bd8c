// SPDX-License-Identifier: MIT
//
// The long convolution on rows of features as block programs, and their launchers.
//
// As s4_conv.h, but signals lie across the rows: two neighbouring features make one complex
// sequence, and a block carries kPairs such sequences side by side, whose threads take turns, so
// that neighbouring threads read and write neighbouring features. With four pairs a block moves
// whole sectors of 32 bytes of float; with one it moves a quarter of each, out of the second-level
// cache, but a small batch keeps every multiprocessor busy.
#pragma once

#include "ecgcore/cuda/element.h"
#include "ecgcore/cuda/fft_memory.h"
#include "ecgcore/kernels/s4_conv_rows.h"
#include "ecgcore/math/activation.h"

namespace ecg::cuda {

// One group of all features: rows of the real and imaginary part of each bin, then D.
template <class T>
struct S4ConvTable {
  static constexpr int kThreads = 256;
  S4ConvTableArgs<T> args;

  ECG_HD int64_t rows() const { return args.n + 3; }
  ECG_HD int64_t size() const { return args.channels * rows() * args.features; }
  ECG_HD int64_t blocks() const { return ceil_div(size(), kThreads); }
  size_t shared_bytes() const { return 0; }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    block.phase([&](int thread) {
      const int64_t at = block.index() * kThreads + thread;
      if (at >= size()) return;
      const int64_t h = at % args.features, row = at / args.features % rows();
      const int64_t kernel = at / (args.features * rows()) * args.features + h;
      T value = T(0);
      if (row < rows() - 1) {
        const Complex<T> bin = fft_real_bin(args.spectrum, kernel, static_cast<int>(row / 2),
                                            static_cast<int>(args.n));
        value = row % 2 == 0 ? bin.re : bin.im;
      } else if (args.D != nullptr) {
        value = args.D[kernel];
      }
      args.table[at] = value;
    });
  }
};

template <class E, int kPairs>
struct S4ConvRows {
  using T = RealOf<E>;
  static constexpr int kThreads = 256;
  static constexpr int kBlocksPerSm = sizeof(T) == sizeof(float) ? 4 / (kPairs > 1 ? 2 : 1) : 2;
  static constexpr int kEach = kThreads / kPairs;  // threads of a pair
  S4ConvRowsArgs<E> args;
  FftLayout<T> layout;
  T* slots;  // as in FftMemory; null where there are several pairs

  ECG_HD int64_t tiles() const { return ceil_div(args.features, 2 * kPairs); }
  ECG_HD int64_t blocks() const { return args.batch * args.channels * tiles(); }
  int64_t max_grid() const { return slots == nullptr ? blocks() : kFftSlots; }

  // Points from one pair to the next: neighbouring pairs fall into different banks.
  static ECG_HD int64_t pitch(int64_t n) {
    constexpr int64_t kLine = 128 / sizeof(Stored<T>);
    return kPairs == 1 ? FftPoints<T>::size(n)
                       : ceil_div(FftPoints<T>::size(n), kLine) * kLine + kLine / kPairs;
  }
  static int64_t bytes(int64_t n) {
    return kPairs * pitch(n) * static_cast<int64_t>(sizeof(Stored<T>));
  }
  size_t shared_bytes() const {
    SharedSize size;
    if (slots == nullptr) size.add<Stored<T>>(kPairs * pitch(layout.n));
    return size.bytes();
  }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    const int n = layout.n, half = n / 2, length = static_cast<int>(args.length);
    Stored<T>* memory = slots == nullptr ? block.template shared<Stored<T>>(kPairs * pitch(n))
                                         : FftMemory<T>{slots, 1}.place(block, n);
    const int64_t tile = block.index() % tiles(), row = block.index() / tiles();
    const int64_t channel = row % args.channels, b = row / args.channels;
    const int64_t width = args.channels * args.features;
    const E* u = args.u + b * length * args.features;
    E* out = args.out + b * length * width + channel * args.features;
    const T* table = args.table + channel * (n + 3) * args.features;
    // The thread's pair, its points, its first feature, and how many features it has.
    const auto points = [&](int thread) {
      return FftPoints<T>(memory + thread % kPairs * pitch(n));
    };
    const auto feature = [&](int thread) { return (tile * kPairs + thread % kPairs) * 2; };
    const auto count = [&](int64_t h) {
      return h >= args.features ? 0 : h + 1 == args.features ? 1 : 2;
    };

    block.phase([&](int thread) {
      const int64_t h = feature(thread);
      const int two = count(h);
      if (two == 0) return;
      fft_first_stage<kEach>(layout, points(thread), thread / kPairs, [&](int t) -> Complex<T> {
        if (t >= length) return {T(0), T(0)};
        const int64_t at = t * args.features + h;
        return {load_element(u, at), two == 2 ? load_element(u, at + 1) : T(0)};
      });
    });
    for (int s = 1; s < layout.stages; ++s) {
      block.phase([&](int thread) {
        if (count(feature(thread)) == 0) return;
        fft_stage<kEach, true>(layout.stage(s), points(thread), thread / kPairs);
      });
    }
    block.phase([&](int thread) {
      const int64_t h = feature(thread);
      const int two = count(h);
      if (two == 0) return;
      const FftPoints<T> z = points(thread);
      const T scale = T(1) / static_cast<T>(n);
      // Bin k of the kernel of one of the two features, plus its skip.
      const auto kernel = [&](int k, int64_t at) -> Complex<T> {
        const T* bin = table + 2 * k * args.features + at;
        return {bin[0] + table[(n + 2) * args.features + at], bin[args.features]};
      };
      for (int k = thread / kPairs; k <= half; k += kEach) {
        const int at = layout.positions[k], mirror = layout.positions[k == 0 ? 0 : n - k];
        FftBinPair<T> bins = fft_rows(z.load(at), z.load(mirror));
        const Complex<T> first = kernel(k, h), second = two == 2 ? kernel(k, h + 1) : first;
        bins = {scale * (first * bins.row0), scale * (second * bins.row1)};
        z.store(at, fft_at(bins));
        if (mirror != at) z.store(mirror, fft_mirror(bins));
      }
    });
    for (int s = layout.stages - 1; s > 0; --s) {
      block.phase([&](int thread) {
        if (count(feature(thread)) == 0) return;
        fft_stage<kEach, false>(layout.stage(s), points(thread), thread / kPairs);
      });
    }
    block.phase([&](int thread) {
      const int64_t h = feature(thread);
      const int two = count(h);
      if (two == 0) return;
      fft_last_stage<kEach>(layout, points(thread), thread / kPairs, [&](int t, Complex<T> x) {
        if (t >= length) return;
        const int64_t at = t * width + h;
        store_element(out, at, args.gelu ? gelu(x.re) : x.re);
        if (two == 2) store_element(out, at + 1, args.gelu ? gelu(x.im) : x.im);
      });
    });
  }
};

inline constexpr int kS4ConvRowsPairs = 4;

// Whether blocks of several pairs fit into shared memory and are enough for a large device.
template <class E>
bool s4_conv_rows_wide(const S4ConvRowsArgs<E>& args) {
  constexpr int64_t kEnough = 256;
  using Wide = S4ConvRows<E, kS4ConvRowsPairs>;
  return Wide::bytes(args.n) <= kFftSharedBytes && Wide{args, {}, nullptr}.blocks() >= kEnough;
}

template <class E>
int64_t s4_conv_rows_scratch(const S4ConvRowsArgs<E>& args) {
  using T = RealOf<E>;
  return FftScratch<T>::tables(fft_layout<T>(args.n)) + FftMemory<T>::scratch(args.n, 1);
}

template <class E, class Start>
Error s4_conv_rows_programs(const S4ConvRowsArgs<E>& args, RealOf<E>* scratch, bool wide,
                            const Start& start) {
  using T = RealOf<E>;
  FftLayout<T> layout = fft_layout<T>(args.n);
  if (layout.stages == 0) return fft_unsupported();
  if (const Error error = FftScratch<T>::fill(layout, scratch, start)) return error;
  if (wide) return start(S4ConvRows<E, kS4ConvRowsPairs>{args, layout, nullptr});
  T* slots = FftMemory<T>::shared(args.n, 1) ? nullptr : scratch + FftScratch<T>::tables(layout);
  return start(S4ConvRows<E, 1>{args, layout, slots});
}

// Queue on a stream; all pointers are device memory. n is made of 2, 3, 5 and 7.
template <class T>
Error s4_conv_table(const S4ConvTableArgs<T>& args, Stream stream);
template <class E>
Error s4_conv_rows(const S4ConvRowsArgs<E>& args, RealOf<E>* scratch, Stream stream);

}  // namespace ecg::cuda

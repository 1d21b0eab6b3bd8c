// SPDX-License-Identifier: MIT
//
// The adjoint of the long convolution as block programs. A block takes one feature and a chunk of
// the batch, two rows at a time as one complex sequence:
//
//   U = FFT(u); for every channel: pre-activation = FFT^-1((K + D) U), g = grad
//   gelu'(pre-activation) turned straight into G = FFT(g); partial(dK) += conj(U) G; du =
//   FFT^-1(Σ_channels conj(K + D) G).
//
// Nothing but partial(dK), (chunks, C, H, n/2 + 1), is written between; a second kernel adds the
// chunks up. With y = irfft(...), bins other than 0 and n/2 count twice, all 1/n; and Σ_t u g = Σ_k
// Re dK[k] is dD.
#pragma once

#include "ecgcore/cuda/s4_conv.h"

namespace ecg::cuda {

template <class E>
struct S4ConvBackward {
  using T = RealOf<E>;
  static constexpr int kThreads = 256;
  static constexpr int kBlocksPerSm = sizeof(T) == sizeof(float) ? 3 : 1;
  S4ConvBackwardArgs<E> args;
  FftLayout<T> layout;
  FftMemory<T> memory;
  T* partial;  // null if neither dK nor dD is wanted
  int64_t chunks;

  ECG_HD int64_t pairs() const { return ceil_div(args.batch, 2); }
  ECG_HD int64_t blocks() const { return args.features * chunks; }
  int64_t max_grid() const { return memory.slots == nullptr ? blocks() : kFftSlots; }
  size_t shared_bytes() const { return memory.shared_bytes(layout.n); }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    Stored<T>* place = memory.place(block, layout.n);
    const int64_t size = FftPoints<T>::size(layout.n);
    const FftPoints<T> U(place), G(place + size);
    // With one channel the sum over channels takes the place of its only term.
    const FftPoints<T> sum(place + (memory.arrays - 1) * size);
    const int64_t h = block.index() / chunks, chunk = block.index() % chunks;
    const int64_t begin = chunk * pairs() / chunks, end = (chunk + 1) * pairs() / chunks;
    const int length = static_cast<int>(args.length);
    for (int64_t pair = begin; pair < end; ++pair) {
      const int64_t b = 2 * pair;
      const bool both = b + 1 < args.batch;
      const int64_t at0 = (b * args.features + h) * length;
      const int64_t at1 = at0 + args.features * length;
      block.phase([&](int thread) {
        fft_first_stage<kThreads>(layout, U, thread, [&](int t) -> Complex<T> {
          if (t >= length) return {T(0), T(0)};
          return {load_element(args.u, at0 + t), both ? load_element(args.u, at1 + t) : T(0)};
        });
      });
      fft_inner_forward<kThreads>(block, layout, U);
      for (int64_t c = 0; c < args.channels; ++c) {
        transform_gradient(block, U, G, c, h, b, both);
        block.phase([&](int thread) { visit_bins(U, G, sum, c, h, chunk, pair == begin, thread); });
      }
      if (args.du == nullptr) continue;
      fft_inner_backward<kThreads>(block, layout, sum);
      block.phase([&](int thread) {
        fft_last_stage<kThreads>(layout, sum, thread, [&](int t, Complex<T> x) {
          if (t >= length) return;
          store_element(args.du, at0 + t, x.re);
          if (both) store_element(args.du, at1 + t, x.im);
        });
      });
    }
  }

 private:
  // G = FFT of the gradient before the activation, of batch rows b and b + 1.
  template <class Block>
  ECG_HD void transform_gradient(Block& block, FftPoints<T> U, FftPoints<T> G, int64_t c, int64_t h,
                                 int64_t b, bool both) const {
    const int length = static_cast<int>(args.length);
    const int64_t at0 = ((b * args.channels + c) * args.features + h) * length;
    const int64_t at1 = at0 + args.channels * args.features * length;
    const auto grad = [&](int t) -> Complex<T> {
      return {load_element(args.grad, at0 + t), both ? load_element(args.grad, at1 + t) : T(0)};
    };
    if (!args.gelu) {
      block.phase([&](int thread) {
        fft_first_stage<kThreads>(layout, G, thread, [&](int t) -> Complex<T> {
          return t < length ? grad(t) : Complex<T>{T(0), T(0)};
        });
      });
    } else {
      block.phase([&](int thread) {
        const T scale = T(1) / static_cast<T>(layout.n);
        for_bins(thread, [&](int k, int at, int mirror) {
          const FftBinPair<T> u = fft_rows(U.load(at), U.load(mirror));
          const Complex<T> K = scale * kernel(c, h, k);
          store_bins(G, at, mirror, {K * u.row0, K * u.row1});
        });
      });
      fft_inner_backward<kThreads>(block, layout, G);
      block.phase([&](int thread) {
        fft_turn<kThreads>(layout, G, thread, [&](int t, Complex<T> x) -> Complex<T> {
          if (t >= length) return {T(0), T(0)};
          const Complex<T> g = grad(t);
          return {g.re * gelu_slope(x.re), g.im * gelu_slope(x.im)};
        });
      });
    }
    fft_inner_forward<kThreads>(block, layout, G);
  }

  // partial(dK) += conj(U) G, and du's bins. A thread sees the same bins for every pair of rows.
  ECG_HD void visit_bins(FftPoints<T> U, FftPoints<T> G, FftPoints<T> sum, int64_t c, int64_t h,
                         int64_t chunk, bool first_pair, int thread) const {
    const int half = layout.n / 2;
    const int64_t line = ((chunk * args.channels + c) * args.features + h) * (half + 1);
    const T scale = T(1) / static_cast<T>(layout.n);
    for_bins(thread, [&](int k, int at, int mirror) {
      const FftBinPair<T> g = fft_rows(G.load(at), G.load(mirror));
      if (partial != nullptr) {
        const FftBinPair<T> u = fft_rows(U.load(at), U.load(mirror));
        Complex<T> product = conj(u.row0) * g.row0 + conj(u.row1) * g.row1;
        if (!first_pair) product += load_complex(partial, line + k);
        store_complex(partial, line + k, product);
      }
      if (args.du != nullptr) {
        const Complex<T> K = conj(scale * kernel(c, h, k));
        FftBinPair<T> out{K * g.row0, K * g.row1};
        if (c > 0) {
          const FftBinPair<T> before = fft_rows(sum.load(at), sum.load(mirror));
          out = {before.row0 + out.row0, before.row1 + out.row1};
        }
        store_bins(sum, at, mirror, out);
      }
    });
  }

  ECG_HD Complex<T> kernel(int64_t c, int64_t h, int k) const {
    return s4_conv_bin(args.spectrum, args.D, c * args.features + h, k, layout.n / 2);
  }
  template <class Visit>
  ECG_HD void for_bins(int thread, const Visit& visit) const {
    for (int k = thread; k <= layout.n / 2; k += kThreads) {
      visit(k, layout.positions[k], layout.positions[k == 0 ? 0 : layout.n - k]);
    }
  }
  static ECG_HD void store_bins(FftPoints<T> z, int at, int mirror, FftBinPair<T> bins) {
    z.store(at, fft_at(bins));
    if (mirror != at) z.store(mirror, fft_mirror(bins));
  }
};

// dK and dD of one (channel, feature) from the partial sums.
template <class E>
struct S4ConvFinish {
  using T = RealOf<E>;
  static constexpr int kThreads = 128;
  S4ConvBackwardArgs<E> args;
  const T* partial;
  int64_t chunks;

  ECG_HD int64_t blocks() const { return args.channels * args.features; }
  size_t shared_bytes() const { return SharedSize().add<T>(kThreads).bytes(); }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    T* sums = block.template shared<T>(kThreads);
    const int64_t half = args.n / 2, rows = args.channels * args.features, row = block.index();
    block.phase([&](int thread) {
      T dD = 0;
      for (int64_t k = thread; k <= half; k += kThreads) {
        Complex<T> sum{T(0), T(0)};
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
          sum += load_complex(partial, (chunk * rows + row) * (half + 1) + k);
        }
        sum = (T(k == 0 || k == half ? 1 : 2) / static_cast<T>(args.n)) * sum;
        if (args.dspectrum != nullptr) store_complex(args.dspectrum, row * (half + 1) + k, sum);
        dD += sum.re;
      }
      sums[thread] = dD;
    });
    if (args.dD == nullptr) return;
    sum_groups<kThreads>(block, sums, kThreads);
    block.phase([&](int thread) {
      if (thread == 0) args.dD[row] = sums[0];
    });
  }
};

// How a backward call is cut, by its sizes alone, and what it needs in scratch.
template <class E>
struct S4ConvBackwardPlan {
  using T = RealOf<E>;
  FftLayout<T> layout;
  bool sums;  // dK or dD wanted
  int arrays;
  int64_t chunks;

  explicit S4ConvBackwardPlan(const S4ConvBackwardArgs<E>& args)
      : layout(fft_layout<T>(args.n)),
        sums(args.dspectrum != nullptr || args.dD != nullptr),
        arrays(args.du != nullptr && args.channels > 1 ? 3 : 2) {
    // About a thousand blocks, if the batch has so many pairs.
    const int64_t pairs = ceil_div(args.batch, 2);
    const int64_t enough = ceil_div(1024, args.features > 0 ? args.features : 1);
    chunks = pairs < enough ? pairs : enough;
  }
  int64_t partial_size(const S4ConvBackwardArgs<E>& args) const {
    return sums ? 2 * chunks * args.channels * args.features * (args.n / 2 + 1) : 0;
  }
};

template <class E>
int64_t s4_conv_backward_scratch(const S4ConvBackwardArgs<E>& args) {
  using T = RealOf<E>;
  const S4ConvBackwardPlan<E> plan(args);
  return FftScratch<T>::tables(plan.layout) + plan.partial_size(args) +
         FftMemory<T>::scratch(args.n, plan.arrays);
}

template <class E, class Start>
Error s4_conv_backward_programs(const S4ConvBackwardArgs<E>& args, RealOf<E>* scratch,
                                const Start& start) {
  using T = RealOf<E>;
  S4ConvBackwardPlan<E> plan(args);
  if (plan.layout.stages == 0) return fft_unsupported();
  if (const Error error = FftScratch<T>::fill(plan.layout, scratch, start)) return error;
  T* partial = plan.sums ? scratch + FftScratch<T>::tables(plan.layout) : nullptr;
  T* slots = FftMemory<T>::shared(args.n, plan.arrays)
                 ? nullptr
                 : scratch + FftScratch<T>::tables(plan.layout) + plan.partial_size(args);
  const Error error =
      start(S4ConvBackward<E>{args, plan.layout, {slots, plan.arrays}, partial, plan.chunks});
  if (error != nullptr || !plan.sums) return error;
  return start(S4ConvFinish<E>{args, partial, plan.chunks});
}

template <class E>
Error s4_conv_backward(const S4ConvBackwardArgs<E>& args, RealOf<E>* scratch, Stream stream);

}  // namespace ecg::cuda

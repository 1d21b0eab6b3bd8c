// SPDX-License-Identifier: MIT
//
// The S4 kernel in time as block programs: the spectrum's programs (nplr.h, nplr_backward.h), their
// spectrum in scratch memory, and a real transform of every row after or before them.
//
// A block takes two rows as one complex sequence through fft.h: bins to points of the first stage
// back, stages in shared memory, last stage and store; the adjoint is the way round. Rows of odd
// length L are the first L of 2L points, whose odd bins are zero, or left alone.
#pragma once

#include "ecgcore/cuda/fft_memory.h"
#include "ecgcore/cuda/nplr_backward.h"
#include "ecgcore/kernels/fft_plan.h"

namespace ecg::cuda {

// Two of the rows (count, L) with spectra (count, L/2 + 1), for one block.
template <class T>
struct NplrRows {
  static constexpr int kThreads = 128;
  int64_t count;
  int length;
  FftLayout<T> layout;
  FftMemory<T> memory;

  ECG_HD int64_t blocks() const { return ceil_div(count, 2); }
  int64_t max_grid() const { return memory.slots == nullptr ? blocks() : kFftSlots; }
  size_t shared_bytes() const { return memory.shared_bytes(layout.n); }

  ECG_HD int step() const { return layout.n / length; }  // from a row's bins to the layout's
  // Whether the block's second row exists.
  template <class Block>
  ECG_HD bool both(Block& block) const {
    return 2 * block.index() + 1 < count;
  }
};

// rows = irfft(spectra, L)
template <class T>
struct NplrInverse : NplrRows<T> {
  using NplrRows<T>::kThreads;
  using NplrRows<T>::layout;
  using NplrRows<T>::length;
  static constexpr int kBlocksPerSm = sizeof(T) == sizeof(float) ? 6 : 4;
  const T* spectra;
  T* rows;

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    const FftPoints<T> z(this->memory.place(block, layout.n));
    const int n = layout.n, step = this->step();
    const int64_t first = 2 * block.index();
    const bool both = this->both(block);
    block.phase([&](int thread) {
      const T scale = T(1) / static_cast<T>(length);
      for (int k = thread; k <= n / 2; k += kThreads) {
        const int at = layout.positions[k], mirror = layout.positions[k == 0 ? 0 : n - k];
        FftBinPair<T> bins{{T(0), T(0)}, {T(0), T(0)}};
        if (k % step == 0) {
          bins.row0 = scale * fft_real_bin(spectra, first, k / step, length);
          if (both) bins.row1 = scale * fft_real_bin(spectra, first + 1, k / step, length);
        }
        z.store(at, fft_at(bins));
        if (mirror != at) z.store(mirror, fft_mirror(bins));
      }
    });
    fft_inner_backward<kThreads>(block, layout, z);
    block.phase([&](int thread) {
      fft_last_stage<kThreads>(layout, z, thread, [&](int t, Complex<T> x) {
        if (t >= length) return;
        rows[first * length + t] = x.re;
        if (both) rows[(first + 1) * length + t] = x.im;
      });
    });
  }
};

// The gradient of spectra from that of rows: bins other than 0 and L/2 count twice, all 1/L.
template <class T>
struct NplrInverseAdjoint : NplrRows<T> {
  using NplrRows<T>::kThreads;
  using NplrRows<T>::layout;
  using NplrRows<T>::length;
  static constexpr int kBlocksPerSm = sizeof(T) == sizeof(float) ? 6 : 4;
  const T* rows;
  T* spectra;

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    const FftPoints<T> z(this->memory.place(block, layout.n));
    const int n = layout.n, step = this->step();
    const int64_t first = 2 * block.index(), bins = length / 2 + 1;
    const bool both = this->both(block);
    block.phase([&](int thread) {
      fft_first_stage<kThreads>(layout, z, thread, [&](int t) -> Complex<T> {
        if (t >= length) return {T(0), T(0)};
        return {rows[first * length + t], both ? rows[(first + 1) * length + t] : T(0)};
      });
    });
    fft_inner_forward<kThreads>(block, layout, z);
    block.phase([&](int thread) {
      for (int k = thread; k < bins; k += kThreads) {
        const int at = layout.positions[k * step];
        const int mirror = layout.positions[k == 0 ? 0 : n - k * step];
        const T scale = T(k == 0 || 2 * k == length ? 1 : 2) / static_cast<T>(length);
        const FftBinPair<T> found = fft_rows(z.load(at), z.load(mirror));
        store_complex(spectra, first * bins + k, scale * found.row0);
        if (both) store_complex(spectra, (first + 1) * bins + k, scale * found.row1);
      }
    });
  }
};

// Scratch of a call, in elements of T: tables of the transform, its points where shared memory does
// not hold them, the spectra, and what their own programs need.
template <class T>
struct NplrKernelPlan {
  FftLayout<T> layout;
  NplrRows<T> rows;
  T *spectra, *rest;

  NplrKernelPlan(const NplrArgs<T>& in, int64_t length, T* scratch)
      : layout(fft_layout<T>(fft_plan_length(length))) {
    T* slots = scratch + FftScratch<T>::tables(layout);
    spectra = slots + FftMemory<T>::scratch(layout.n, 1);
    rest = spectra + spectra_size(in);
    rows = {count(in),
            static_cast<int>(length),
            layout,
            {FftMemory<T>::shared(layout.n, 1) ? nullptr : slots, 1}};
  }
  // Fills the tables.
  template <class Start>
  Error start(T* scratch, const Start& start) {
    if (layout.stages == 0) return fft_unsupported();
    const Error error = FftScratch<T>::fill(layout, scratch, start);
    rows.layout = layout;
    return error;
  }
  // All but what the spectra's programs need.
  static int64_t size(const NplrArgs<T>& in, int64_t length) {
    const FftLayout<T> layout = fft_layout<T>(fft_plan_length(length));
    return FftScratch<T>::tables(layout) + FftMemory<T>::scratch(layout.n, 1) + spectra_size(in);
  }

 private:
  static int64_t count(const NplrArgs<T>& in) { return in.rows * in.channels * in.features; }
  static int64_t spectra_size(const NplrArgs<T>& in) { return 2 * count(in) * in.node_count; }
};

template <class T>
int64_t nplr_kernel_scratch(const NplrKernelArgs<T>& args) {
  return NplrKernelPlan<T>::size(args.inputs, args.length) + nplr_forward_scratch(args.inputs);
}
template <class T, class Start>
Error nplr_kernel_programs(const NplrKernelArgs<T>& args, T* scratch, const Start& start) {
  NplrKernelPlan<T> plan(args.inputs, args.length, scratch);
  if (const Error error = plan.start(scratch, start)) return error;
  NplrArgs<T> inputs = args.inputs;
  inputs.spectrum = plan.spectra;
  if (const Error error = nplr_forward_programs(inputs, plan.rest, start)) return error;
  return start(NplrInverse<T>{plan.rows, plan.spectra, args.kernel});
}

template <class T>
int64_t nplr_kernel_backward_scratch(const NplrKernelBackwardArgs<T>& args) {
  return NplrKernelPlan<T>::size(args.spectrum.inputs, args.length) +
         nplr_backward_scratch(args.spectrum);
}
template <class T, class Start>
Error nplr_kernel_backward_programs(const NplrKernelBackwardArgs<T>& args, T* scratch,
                                    const Start& start) {
  NplrKernelPlan<T> plan(args.spectrum.inputs, args.length, scratch);
  if (const Error error = plan.start(scratch, start)) return error;
  if (const Error error = start(NplrInverseAdjoint<T>{plan.rows, args.grad, plan.spectra})) {
    return error;
  }
  NplrBackwardArgs<T> spectrum = args.spectrum;
  spectrum.grad = plan.spectra;
  return nplr_backward_programs(spectrum, plan.rest, start);
}

// Queue on a stream; all pointers are device memory. L is made of 2, 3, 5 and 7.
template <class T>
Error nplr_kernel(const NplrKernelArgs<T>& args, T* scratch, Stream stream);
template <class T>
Error nplr_kernel_backward(const NplrKernelBackwardArgs<T>& args, T* scratch, Stream stream);

}  // namespace ecg::cuda

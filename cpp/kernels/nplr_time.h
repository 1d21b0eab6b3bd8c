// SPDX-License-Identifier: MIT
//
// The NPLR kernel in time: as many features as there are lanes get their spectra, in memory that
// the second-level cache holds, then their transforms, one row a lane. Included by nplr.cpp only,
// inside its per-instruction-set namespace.
#pragma once

#include "ecgcore/math/fft.h"
#include "ecgcore/math/fft_rows.h"
#include "nplr_backward.h"
#include "nplr_forward.h"

namespace ecg::cpu::ECG_ISA {
namespace {

// Rows of L samples to and from their half spectra. Rows of odd length are transformed modulo
// z^L - 1, half of the plan of 2L: its even bins are theirs, the odd ones zero or left alone.
template <class T, int W>
struct Transform {
  using R = Pack<T, W>;

  const FftPlan<T>& plan;
  int64_t length, step;
  R* x;
  Complex<R>*z, *bins;

  Transform(Pieces<T>& pieces, const FftPlan<T>& plan_, int64_t length_)
      : plan(plan_), length(length_), step(plan_.n / length_) {
    const auto packs = [&](int64_t count) { return reinterpret_cast<R*>(pieces.take(count * W)); };
    x = packs(length);
    z = reinterpret_cast<Complex<R>*>(packs(2 * plan.half()));
    bins = reinterpret_cast<Complex<R>*>(packs(2 * (plan.half() + 1)));
  }
  int64_t bin_count() const { return length / 2 + 1; }

  void inverse(const LaneRows<const T, W>& spectra, const LaneRows<T, W>& rows) const {
    if (step > 1) {
      for (int64_t k = 0; k <= plan.half(); ++k) bins[k] = {R(0), R(0)};
    }
    fft_load_bins(plan, spectra, bin_count(), step, scale(), bins);
    const FftFromBins<R> visit{bins, plan.single_bins()};
    fft_from_values(plan, z, visit);
    fft_join(plan, length, x, z);
    store_lanes<T, W>(rows.row, rows.count, length, [&](int64_t j) { return x[j]; });
  }

  // Of a kernel's gradient, that of its spectrum.
  void adjoint(const LaneRows<const T, W>& rows, const LaneRows<T, W>& spectra) const {
    load_lanes(rows.row, length, x);
    const FftToBins<R> visit{bins, plan.single_bins()};
    fft_split(plan, length, x, x, z, visit);
    fft_store_adjoint_bins(plan, bins, bin_count(), step, scale(), spectra);
  }

 private:
  double scale() const { return 2.0 / static_cast<double>(length); }
};

template <class T, int W>
struct KernelForward {
  Forward<T, W> forward;
  Transform<T, W> transform;
  SpectrumRows<T> rows;  // of one group

  KernelForward(Pieces<T>& pieces, const NplrKernelArgs<T>& args, const FftPlan<T>& plan)
      : forward(pieces, args.inputs), transform(pieces, plan, args.length) {
    const NplrArgs<T>& in = args.inputs;
    rows = {pieces.take(2 * in.rows * in.channels * W * in.node_count), 0, W, in.node_count};
  }

  void run(const NplrKernelArgs<T>& args, int64_t begin, int64_t end) {
    const NplrArgs<T>& in = args.inputs;
    rows.first = begin;
    forward.spectrum = rows;
    run_features(forward, in, in.rank, begin, end);
    for (int64_t row = 0; row < in.rows * in.channels; ++row) {
      const LaneRows<const T, W> spectra(rows.at(row, begin), 0, end - begin, 2 * in.node_count);
      transform.inverse(
          spectra, {args.kernel, row * in.features + begin, row * in.features + end, args.length});
    }
  }
};

template <class T, int W>
struct KernelBackward {
  Backward<T, W> backward;
  Transform<T, W> transform;
  SpectrumRows<T> rows;

  KernelBackward(Pieces<T>& pieces, const NplrKernelBackwardArgs<T>& args, const FftPlan<T>& plan)
      : backward(pieces, args.spectrum), transform(pieces, plan, args.length) {
    const NplrArgs<T>& in = args.spectrum.inputs;
    rows = {pieces.take(2 * in.rows * in.channels * W * in.node_count), 0, W, in.node_count};
  }

  void run(const NplrKernelBackwardArgs<T>& args, int64_t begin, int64_t end) {
    const NplrArgs<T>& in = args.spectrum.inputs;
    rows.first = begin;
    for (int64_t row = 0; row < in.rows * in.channels; ++row) {
      const LaneRows<const T, W> grad(args.grad, row * in.features + begin, row * in.features + end,
                                      args.length);
      transform.adjoint(grad, {rows.at(row, begin), 0, end - begin, 2 * in.node_count});
    }
    backward.spectrum = {rows.data, begin, W, in.node_count};
    run_features(backward, args.spectrum, in.rank, begin, end);
  }
};

}  // namespace
}  // namespace ecg::cpu::ECG_ISA

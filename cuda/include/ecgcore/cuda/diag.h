// SPDX-License-Identifier: MIT
//
// diag_kernel on the GPU: sums of powers and moments (powers.h) whose modes and weights come from
// the parameters (math/diag.h), and the gradients of those.
#pragma once

#include "ecgcore/cuda/powers.h"
#include "ecgcore/kernels/diag.h"

namespace ecg::cuda {

// Weights 2 factor B C; heads are rows of B times channels.
template <class T>
struct DiagSource {
  DiagArgs<T> args;
  bool from_end;

  ECG_HD Complex<double> A(int64_t h, int64_t n) const {
    return load_wide(args.A, (args.A_tied ? 0 : h) * args.modes + n);
  }
  ECG_HD Complex<double> B(int64_t s, int64_t h, int64_t n) const {
    return load_wide(args.B, (args.B_tied ? s : s * args.features + h) * args.modes + n);
  }
  ECG_HD Complex<double> C(int64_t c, int64_t h, int64_t n) const {
    return load_wide(args.C, (c * args.features + h) * args.modes + n);
  }
  ECG_HD PowerMode mode(int64_t h, int64_t n) const {
    const auto mode = diag_mode(args.discretization, A(h, n), static_cast<double>(args.dt[h]),
                                static_cast<double>(args.length));
    return {mode.log_x, mode.factor};
  }
  ECG_HD Complex<double> weight(int64_t head, int64_t h, int64_t n, Complex<double> factor) const {
    return 2.0 * (factor * (B(head / args.channels, h, n) * C(head % args.channels, h, n)));
  }
};

// A block takes one feature, a thread its modes: the gradient of a weight w = factor B C is
// 2 conj(m0), that of log_x Σ 2 conj(w m1).
template <class T>
struct DiagGradients {
  static constexpr int kThreads = 64;
  DiagBackwardArgs<T> args;
  DiagSource<T> source;
  PowerSizes sizes;
  const PowerMoment<T>* moments;

  ECG_HD int64_t blocks() const { return sizes.rows; }
  size_t shared_bytes() const { return SharedSize().add<double>(kThreads).bytes(); }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    double* ddt = block.template shared<double>(kThreads);
    const int64_t h = block.index();
    block.phase([&](int thread) {
      double sum = 0;
      for (int64_t n = thread; n < sizes.modes; n += kThreads) sum += gradients(h, n);
      ddt[thread] = sum;
    });
    sum_groups<kThreads>(block, ddt, kThreads);
    block.phase([&](int thread) {
      if (thread == 0 && args.ddt != nullptr) args.ddt[h] = static_cast<T>(ddt[0]);
    });
  }

 private:
  // Stores the gradients of one mode and returns its part of that of dt.
  ECG_HD double gradients(int64_t h, int64_t n) const {
    const int64_t rows = args.inputs.rows, channels = args.inputs.channels;
    const PowerMode mode = source.mode(h, n);
    const auto of = [&](int64_t s, int64_t c) {
      return power_collected(sizes, moments, mode.log_x, source.from_end, s * channels + c, h, n);
    };
    const auto at = [&](int64_t i) { return (i * sizes.rows + h) * sizes.modes + n; };
    Complex<double> dlog_x{0, 0}, dfactor{0, 0};
    for (int64_t s = 0; s < rows; ++s) {
      const Complex<double> b = source.B(s, h, n);
      Complex<double> dB{0, 0};
      for (int64_t c = 0; c < channels; ++c) {
        const VandermondeMoments m = of(s, c);
        const Complex<double> y = source.C(c, h, n), dweight = 2.0 * conj(m.m0);
        dB += dweight * conj(mode.factor * y);
        dfactor += dweight * conj(b * y);
        dlog_x += 2.0 * conj(mode.factor * (b * y) * m.m1);
      }
      if (args.dB != nullptr) store_narrow(args.dB, at(s), dB);
    }
    if (args.dC != nullptr) {
      for (int64_t c = 0; c < channels; ++c) {
        Complex<double> dC{0, 0};
        for (int64_t s = 0; s < rows; ++s) {
          dC += 2.0 * conj(of(s, c).m0 * (mode.factor * source.B(s, h, n)));
        }
        store_narrow(args.dC, at(c), dC);
      }
    }
    if (args.dA == nullptr && args.ddt == nullptr) return 0;
    const auto gradient = diag_mode_gradient(args.inputs.discretization, source.A(h, n),
                                             static_cast<double>(args.inputs.dt[h]),
                                             static_cast<double>(sizes.length), dlog_x, dfactor);
    if (args.dA != nullptr) store_narrow(args.dA, h * sizes.modes + n, gradient.A);
    return gradient.dt;
  }
};

template <class T>
PowerSizes diag_sizes(const DiagArgs<T>& args) {
  return {args.rows * args.channels, 1, args.features, args.modes, args.length};
}

// Scratch of a call, in doubles.
template <class T>
int64_t diag_scratch(const DiagArgs<T>& args) {
  return PowerScratch<T>::divide(diag_sizes(args), true, false, nullptr, nullptr);
}
template <class T>
int64_t diag_scratch(const DiagBackwardArgs<T>& args) {
  return PowerScratch<T>::divide(diag_sizes(args.inputs), false, true, nullptr, nullptr);
}

// Runs `start(program)` for the programs of one call in their order; start is a launch or the
// emulator.
template <class T, class Start>
Error diag_programs(const DiagArgs<T>& args, double* memory, const Start& start) {
  const PowerSizes sizes = diag_sizes(args);
  PowerScratch<T> scratch{};
  PowerScratch<T>::divide(sizes, true, false, memory, &scratch);
  const DiagSource<T> source{args, args.discretization == Discretization::dss};
  return power_sums(source, sizes, scratch, args.out, start);
}

template <class T, class Start>
Error diag_programs(const DiagBackwardArgs<T>& args, double* memory, const Start& start) {
  const PowerSizes sizes = diag_sizes(args.inputs);
  PowerScratch<T> scratch{};
  PowerScratch<T>::divide(sizes, false, true, memory, &scratch);
  const DiagSource<T> source{args.inputs, args.inputs.discretization == Discretization::dss};
  const bool first = args.dA != nullptr || args.ddt != nullptr;
  if (const Error error = power_moments(source, sizes, scratch, args.grad, first, start)) {
    return error;
  }
  return start(DiagGradients<T>{args, source, sizes, scratch.moments});
}

// Queue on a stream; all pointers are device memory, `scratch` of diag_scratch(args) doubles. Args
// is either of kernels/diag.h.
template <class Args>
Error diag(const Args& args, double* scratch, Stream stream);

}  // namespace ecg::cuda

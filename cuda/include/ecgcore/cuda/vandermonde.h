// SPDX-License-Identifier: MIT
//
// vandermonde and its transpose on the GPU: sums of powers and moments (powers.h), and the small
// programs that make gradients of them.
#pragma once

#include "ecgcore/cuda/powers.h"
#include "ecgcore/kernels/vandermonde.h"

namespace ecg::cuda {

// Weights v times a number; or, of the gradient g of the transpose, conj(g) v.
template <class T>
struct VandermondeSource {
  const T* v;      // (heads, rows, modes) complex
  const T* log_x;  // (rows, modes) complex
  const T* grad;   // (heads, rows, modes) complex, or null
  int64_t rows, modes;
  double scale;
  bool from_end = false;

  ECG_HD PowerMode mode(int64_t row, int64_t n) const {
    return {load_wide(log_x, row * modes + n), {scale, 0}};
  }
  ECG_HD Complex<double> weight(int64_t head, int64_t row, int64_t n,
                                Complex<double> factor) const {
    const int64_t at = (head * rows + row) * modes + n;
    const Complex<double> w = factor * load_wide(v, at);
    return grad == nullptr ? w : conj(load_wide(grad, at)) * w;
  }
};

// dv = 2 conj(m0), dlog_x = Σ_heads 2 conj(v m1); for the complex sum the moments are those of the
// conjugate of the gradient, m(real) - i m(imaginary), and there is no 2. A thread takes one mode.
template <class T>
struct VandermondeGradients {
  static constexpr int kThreads = 128;
  VandermondeBackwardArgs<T> args;
  PowerSizes sizes;
  const PowerMoment<T>* moments;

  ECG_HD int64_t blocks() const { return ceil_div(args.rows * args.modes, kThreads); }
  size_t shared_bytes() const { return 0; }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    block.phase([&](int thread) {
      const int64_t i = block.index() * kThreads + thread;
      if (i >= args.rows * args.modes) return;
      const int64_t row = i / args.modes, n = i % args.modes;
      const Complex<double> x = load_wide(args.log_x, i);
      const auto of = [&](int64_t signal) {
        return power_collected(sizes, moments, x, false, signal, row, n);
      };
      Complex<double> dlog_x{0, 0};
      for (int64_t head = 0; head < args.heads; ++head) {
        VandermondeMoments m = of(head * sizes.parts);
        if (args.conjugate_pairs) {
          m = {2.0 * m.m0, 2.0 * m.m1};
        } else {
          const VandermondeMoments imaginary = of(head * sizes.parts + 1);
          m.m0 += Complex<double>{imaginary.m0.im, -imaginary.m0.re};
          m.m1 += Complex<double>{imaginary.m1.im, -imaginary.m1.re};
        }
        const int64_t at = head * args.rows * args.modes + i;
        if (args.dv != nullptr) store_narrow(args.dv, at, conj(m.m0));
        if (args.dlog_x != nullptr) dlog_x += conj(load_wide(args.v, at) * m.m1);
      }
      if (args.dlog_x != nullptr) store_narrow(args.dlog_x, i, dlog_x);
    });
  }
};

// v m0 where there is no gradient; else dv = g conj(m0), dlog_x = Σ_heads g conj(v m1).
template <class T>
struct VandermondeTransposeModes {
  static constexpr int kThreads = 128;
  const T* grad;   // (heads, rows, modes) complex, or null
  const T* v;      // (heads, rows, modes) complex
  const T* log_x;  // (rows, modes) complex
  T* out;          // (heads, rows, modes) complex: the sums, or dv, or null
  T* dlog_x;       // (rows, modes) complex, or null
  PowerSizes sizes;
  const PowerMoment<T>* moments;

  ECG_HD int64_t blocks() const { return ceil_div(sizes.rows * sizes.modes, kThreads); }
  size_t shared_bytes() const { return 0; }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    block.phase([&](int thread) {
      const int64_t i = block.index() * kThreads + thread;
      if (i >= sizes.rows * sizes.modes) return;
      const int64_t row = i / sizes.modes, n = i % sizes.modes;
      const Complex<double> x = load_wide(log_x, i);
      Complex<double> slope{0, 0};
      for (int64_t head = 0; head < sizes.heads; ++head) {
        const VandermondeMoments m = power_collected(sizes, moments, x, false, head, row, n);
        const int64_t at = head * sizes.rows * sizes.modes + i;
        const Complex<double> weight = load_wide(v, at);
        if (grad == nullptr) {
          store_narrow(out, at, weight * m.m0);
          continue;
        }
        const Complex<double> g = load_wide(grad, at);
        if (out != nullptr) store_narrow(out, at, g * conj(m.m0));
        if (dlog_x != nullptr) slope += g * conj(weight * m.m1);
      }
      if (dlog_x != nullptr) store_narrow(dlog_x, i, slope);
    });
  }
};

template <class Args>
PowerSizes vandermonde_sizes(const Args& args, int64_t parts) {
  return {args.heads, parts, args.rows, args.modes, args.length};
}

// Scratch of each call, in doubles.
template <class T>
int64_t vandermonde_scratch(const VandermondeArgs<T>& args) {
  return PowerScratch<T>::divide(vandermonde_sizes(args, args.conjugate_pairs ? 1 : 2), true, false,
                                 nullptr, nullptr);
}
template <class T>
int64_t vandermonde_scratch(const VandermondeBackwardArgs<T>& args) {
  return PowerScratch<T>::divide(vandermonde_sizes(args, args.conjugate_pairs ? 1 : 2), false, true,
                                 nullptr, nullptr);
}
template <class T>
int64_t vandermonde_scratch(const VandermondeTransposeArgs<T>& args) {
  return PowerScratch<T>::divide(vandermonde_sizes(args, 1), false, true, nullptr, nullptr);
}
template <class T>
int64_t vandermonde_scratch(const VandermondeTransposeBackwardArgs<T>& args) {
  return PowerScratch<T>::divide(vandermonde_sizes(args, 1), true, true, nullptr, nullptr);
}

// Runs `start(program)` for the programs of one call in their order; start is a launch or the
// emulator.
template <class T, class Start>
Error vandermonde_programs(const VandermondeArgs<T>& args, double* memory, const Start& start) {
  const PowerSizes sizes = vandermonde_sizes(args, args.conjugate_pairs ? 1 : 2);
  PowerScratch<T> scratch{};
  PowerScratch<T>::divide(sizes, true, false, memory, &scratch);
  const VandermondeSource<T> source{args.v,    args.log_x, nullptr,
                                    args.rows, args.modes, args.conjugate_pairs ? 2.0 : 1.0};
  return power_sums(source, sizes, scratch, args.out, start);
}

template <class T, class Start>
Error vandermonde_programs(const VandermondeBackwardArgs<T>& args, double* memory,
                           const Start& start) {
  const PowerSizes sizes = vandermonde_sizes(args, args.conjugate_pairs ? 1 : 2);
  PowerScratch<T> scratch{};
  PowerScratch<T>::divide(sizes, false, true, memory, &scratch);
  const VandermondeSource<T> source{args.v, args.log_x, nullptr, args.rows, args.modes, 1};
  if (const Error error =
          power_moments(source, sizes, scratch, args.grad, args.dlog_x != nullptr, start)) {
    return error;
  }
  return start(VandermondeGradients<T>{args, sizes, scratch.moments});
}

template <class T, class Start>
Error vandermonde_programs(const VandermondeTransposeArgs<T>& args, double* memory,
                           const Start& start) {
  const PowerSizes sizes = vandermonde_sizes(args, 1);
  PowerScratch<T> scratch{};
  PowerScratch<T>::divide(sizes, false, true, memory, &scratch);
  const VandermondeSource<T> source{args.v, args.log_x, nullptr, args.rows, args.modes, 1};
  if (const Error error = power_moments(source, sizes, scratch, args.u, false, start)) return error;
  return start(VandermondeTransposeModes<T>{nullptr, args.v, args.log_x, args.out, nullptr, sizes,
                                            scratch.moments});
}

template <class T, class Start>
Error vandermonde_programs(const VandermondeTransposeBackwardArgs<T>& args, double* memory,
                           const Start& start) {
  const PowerSizes sizes = vandermonde_sizes(args, 1);
  PowerScratch<T> scratch{};
  PowerScratch<T>::divide(sizes, true, true, memory, &scratch);
  const VandermondeSource<T> source{args.v, args.log_x, args.grad, args.rows, args.modes, 1};
  if (args.du != nullptr) {
    if (const Error error = power_sums(source, sizes, scratch, args.du, start)) return error;
  }
  if (args.dv == nullptr && args.dlog_x == nullptr) return nullptr;
  if (const Error error =
          power_moments(source, sizes, scratch, args.u, args.dlog_x != nullptr, start)) {
    return error;
  }
  return start(VandermondeTransposeModes<T>{args.grad, args.v, args.log_x, args.dv, args.dlog_x,
                                            sizes, scratch.moments});
}

// Queue on a stream; all pointers are device memory, `scratch` of vandermonde_scratch(args)
// doubles. Args is any of the four of kernels/vandermonde.h.
template <class Args>
Error vandermonde(const Args& args, double* scratch, Stream stream);

}  // namespace ecg::cuda

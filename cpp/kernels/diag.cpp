// SPDX-License-Identifier: MIT
//
// The S4D kernel on the CPU, one feature after the other: its modes become weights and powers
// (math/diag.h), in double, and rows and channels are sums over the same powers
// (vandermonde_tables.h).
#include "ecgcore/kernels/diag.h"

#include "vandermonde_tables.h"

namespace ecg::cpu::ECG_ISA {
namespace {

// One feature's parameters and the factor of each mode.
struct Feature {
  WidePlanes A, factor, dlog_x, dfactor;

  void allocate(Scratch& scratch, int64_t modes) {
    for (WidePlanes* planes : {&A, &factor, &dlog_x, &dfactor}) planes->allocate(scratch, modes);
  }
};

template <class T>
int64_t scratch_of(const DiagArgs<T>& args) {
  Scratch scratch(nullptr);
  Powers<T>(scratch, args.modes);
  Feature().allocate(scratch, args.modes);
  return scratch.used();
}

// Where feature h of row i begins in an array (rows, H|1, N).
template <class T>
int64_t offset(const DiagArgs<T>& args, int64_t i, int64_t h, bool tied) {
  return 2 * args.modes * (tied ? i : i * args.features + h);
}

// Factors, and the powers of all modes.
template <class T>
void prepare(const DiagArgs<T>& args, int64_t h, Feature& feature, Powers<T>& powers) {
  const double length = static_cast<double>(args.length);
  feature.A.load(args.A + offset(args, 0, h, args.A_tied), args.modes);
  for (int64_t n = args.modes; n < padded(args.modes); ++n) feature.A.set(n, feature.A.at(0));
  for (int64_t n = 0; n < args.modes; n += kWide) {
    const auto mode = diag_mode(args.discretization, feature.A.pack(n), Wide(args.dt[h]), length);
    powers.log_x.set(n, mode.log_x);
    feature.factor.set(n, mode.factor);
  }
  powers.prepare(args.length, args.discretization == Discretization::dss);
}

template <class T>
void forward(const DiagArgs<T>& args, double* memory, int64_t begin, int64_t end) {
  Scratch scratch(memory);
  Powers<T> powers(scratch, args.modes);
  Feature feature;
  feature.allocate(scratch, args.modes);
  for (int64_t h = begin; h < end; ++h) {
    prepare(args, h, feature, powers);
    for (int64_t s = 0; s < args.rows; ++s) {
      const T* B = args.B + offset(args, s, h, args.B_tied);
      for (int64_t c = 0; c < args.channels; ++c) {
        const T* C = args.C + offset(args, c, h, false);
        for (int64_t n = 0; n < args.modes; ++n) {
          powers.weights.set(n, 2.0 * (feature.factor.at(n) * (wide(B + 2 * n) * wide(C + 2 * n))));
        }
        powers.sums(args.out + ((s * args.channels + c) * args.features + h) * args.length, 1);
      }
    }
  }
}

// The gradient of a weight w = factor B C is 2 conj(m0), that of log_x Σ 2 conj(w m1).
template <bool kFirst, class T>
void backward(const DiagBackwardArgs<T>& args, double* memory, int64_t begin, int64_t end) {
  const DiagArgs<T>& in = args.inputs;
  Scratch scratch(memory);
  Powers<T> powers(scratch, in.modes);
  Feature feature;
  feature.allocate(scratch, in.modes);
  const auto clear = [&](T* to, int64_t rows, int64_t h) {
    for (int64_t i = 0; to != nullptr && i < rows; ++i) {
      for (int64_t n = 0; n < 2 * in.modes; ++n) to[offset(in, i, h, false) + n] = 0;
    }
  };
  const auto add = [](T* to, Complex<double> x) {
    to[0] += static_cast<T>(x.re);
    to[1] += static_cast<T>(x.im);
  };
  for (int64_t h = begin; h < end; ++h) {
    prepare(in, h, feature, powers);
    clear(args.dB, in.rows, h);
    clear(args.dC, in.channels, h);
    for (int64_t n = 0; n < padded(in.modes); ++n) {
      feature.dlog_x.set(n, Complex<double>{0, 0});
      feature.dfactor.set(n, Complex<double>{0, 0});
    }
    for (int64_t s = 0; s < in.rows; ++s) {
      const T* B = in.B + offset(in, s, h, in.B_tied);
      for (int64_t c = 0; c < in.channels; ++c) {
        const T* C = in.C + offset(in, c, h, false);
        powers.template moments<kFirst>(
            args.grad + ((s * in.channels + c) * in.features + h) * in.length, 1);
        for (int64_t n = 0; n < in.modes; ++n) {
          const Complex<double> b = wide(B + 2 * n), y = wide(C + 2 * n), bc = b * y;
          const Complex<double> factor = feature.factor.at(n);
          const Complex<double> dweight = 2.0 * conj(powers.m0.at(n));
          if (args.dB != nullptr) {
            add(args.dB + offset(in, s, h, false) + 2 * n, dweight * conj(factor * y));
          }
          if (args.dC != nullptr) {
            add(args.dC + offset(in, c, h, false) + 2 * n, dweight * conj(factor * b));
          }
          if constexpr (kFirst) {
            const Complex<double> slope = 2.0 * (factor * bc * powers.m1.at(n));
            feature.dlog_x.set(n, feature.dlog_x.at(n) + conj(slope));
            feature.dfactor.set(n, feature.dfactor.at(n) + dweight * conj(bc));
          }
        }
      }
    }
    if constexpr (kFirst) {
      const double length = static_cast<double>(in.length);
      Wide ddt(0);
      for (int64_t n = 0; n < in.modes; n += kWide) {
        const auto gradient =
            diag_mode_gradient(in.discretization, feature.A.pack(n), Wide(in.dt[h]), length,
                               feature.dlog_x.pack(n), feature.dfactor.pack(n));
        ddt += gradient.dt;  // padded modes have no gradient
        feature.dlog_x.set(n, gradient.A);
      }
      if (args.dA != nullptr) feature.dlog_x.store(args.dA + offset(in, 0, h, false), in.modes);
      if (args.ddt != nullptr) args.ddt[h] = static_cast<T>(sum_lanes(ddt));
    }
  }
}

template <class T>
void backward_any(const DiagBackwardArgs<T>& args, double* memory, int64_t begin, int64_t end) {
  args.dA != nullptr || args.ddt != nullptr ? backward<true>(args, memory, begin, end)
                                            : backward<false>(args, memory, begin, end);
}

}  // namespace

template <class T>
DiagKernels<T> diag_kernels() {
  return {scratch_of<T>, forward<T>, backward_any<T>};
}
template DiagKernels<float> diag_kernels();
template DiagKernels<double> diag_kernels();

}  // namespace ecg::cpu::ECG_ISA

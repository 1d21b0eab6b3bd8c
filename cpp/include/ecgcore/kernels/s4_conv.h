// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "ecgcore/kernels/cpu_level.h"
#include "ecgcore/math/fft_plan.h"
#include "ecgcore/math/half.h"

namespace ecg {

// y[b, c, h] = f(irfft(rfft(u[b, h], n) spectrum[c, h], n)[:length] + D[c, h] u[b, h]), f the
// identity or GELU. E is the element of u and y (float, double, Float16, BFloat16), T what is
// computed in. Complex arrays are interleaved pairs of T.
template <class E>
struct S4ConvArgs {
  using T = RealOf<E>;
  const E* u;                                    // (batch, features, length)
  const T* spectrum;                             // (channels, features, n/2 + 1) complex
  const T* D;                                    // (channels, features), or null for no skip
  E* y;                                          // (batch, channels, features, length)
  int64_t batch, channels, features, length, n;  // n even, >= 2 length
  bool gelu;
};

// Adjoint. What comes before the activation is computed again. Pointers of gradients nobody wants
// are null.
template <class E>
struct S4ConvBackwardArgs {
  using T = RealOf<E>;
  const E* grad;      // (batch, channels, features, length)
  const E* u;         // (batch, features, length)
  const T* spectrum;  // (channels, features, n/2 + 1) complex
  const T* D;         // (channels, features), or null
  E* du;              // (batch, features, length)
  T* dspectrum;       // (channels, features, n/2 + 1) complex
  T* dD;              // (channels, features)
  int64_t batch, channels, features, length, n;
  bool gelu;
};

// Forward works on a range of tasks: `groups` groups of features, as many as there are lanes, times
// batch rows: task = (channel * groups + group) * batch + row. Backward on a range of groups, each
// with its whole batch and all channels, so that sums over them have one order. `workspace` is
// private to the call, aligned to 64 bytes.
template <class E>
struct S4ConvKernels {
  using T = RealOf<E>;
  int lanes;
  // Sizes of the workspace, in elements of T.
  int64_t (*forward_workspace)(const FftPlan<T>&);
  int64_t (*backward_workspace)(const FftPlan<T>&, int64_t channels);
  void (*forward)(const S4ConvArgs<E>&, const FftPlan<T>&, T* workspace, int64_t begin,
                  int64_t end);
  void (*backward)(const S4ConvBackwardArgs<E>&, const FftPlan<T>&, T* workspace, int64_t begin,
                   int64_t end);
};

}  // namespace ecg

ECG_KERNEL_TABLE(S4ConvKernels, s4_conv_kernels)

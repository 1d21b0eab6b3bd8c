// SPDX-License-Identifier: MIT
//
// Elements as tensors store them, and the real type kernels compute in: half precision is read into
// and rounded from float.
#pragma once

#include "ecgcore/math/pack.h"

namespace ecg {

// Storage only.
struct Float16 {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};
// Two of them as the processors that multiply them want them, the first in the low half.
struct BFloat16Pair {
  uint32_t bits;
};

template <class E>
struct ElementTraits {
  using Real = E;
};
template <>
struct ElementTraits<Float16> {
  using Real = float;
};
template <>
struct ElementTraits<BFloat16> {
  using Real = float;
};
template <>
struct ElementTraits<BFloat16Pair> {
  using Real = float;
};
template <class E>
using RealOf = typename ElementTraits<E>::Real;

}  // namespace ecg

#if !defined(__CUDACC__)  // a CUDA thread has the conversions of cuda_fp16.h and cuda_bf16.h

ECG_MATH_BEGIN

template <class T>
ECG_HD T to_real(T x) {
  return x;
}
template <class T>
ECG_HD float to_real(BFloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float out;
  __builtin_memcpy(&out, &bits, sizeof out);
  return out;
}
template <class T>
ECG_HD float to_real(Float16 x) {
  _Float16 half;
  __builtin_memcpy(&half, &x, sizeof half);
  return static_cast<float>(half);
}

// Rounds to nearest even, as torch does; not-a-number stays so.
template <class E>
ECG_HD E from_real(RealOf<E> x) {
  if constexpr (sizeof(E) >= 4) {
    return x;
  } else if constexpr (__is_same(E, Float16)) {
    const _Float16 half = static_cast<_Float16>(x);
    E out;
    __builtin_memcpy(&out, &half, sizeof out);
    return out;
  } else {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    bits = x == x ? bits + 0x7fff + ((bits >> 16) & 1) : 0x7fc00000;
    return E{static_cast<uint16_t>(bits >> 16)};
  }
}

// A Pack from, and to, consecutive elements.
template <class P, class E>
ECG_HD P load_as(const E* from) {
  using T = typename RealTraits<P>::Scalar;
  if constexpr (__is_same(T, E)) {
    return P::load(from);
  } else {
    P out;
    for (int i = 0; i < RealTraits<P>::kWidth; ++i) out.lanes[i] = to_real<T>(from[i]);
    return out;
  }
}
template <class E, class P>
ECG_HD void store_as(E* to, P x) {
  using T = typename RealTraits<P>::Scalar;
  if constexpr (__is_same(T, E)) {
    x.store(to);
  } else {
    for (int i = 0; i < RealTraits<P>::kWidth; ++i) to[i] = from_real<E>(x[i]);
  }
}

ECG_MATH_END

#endif

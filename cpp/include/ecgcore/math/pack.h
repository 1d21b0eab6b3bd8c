// SPDX-License-Identifier: MIT
//
// Pack<T, W>: W lanes of T that behave like one real number. A formula templated on its real type R
// runs on a CUDA thread with R = float and on SIMD lanes with R = Pack<float, 8>, from the same
// text.
//
// Built on the compiler's vector extension, so any W compiles everywhere: lanes wider than the
// hardware are lowered to several registers, which is also how the 16-lane code is tested on
// machines that have only 8.
#pragma once

#include <type_traits>

#include "ecgcore/math/config.h"

ECG_MATH_BEGIN

// The scalar type behind a real-like type, and how many lanes it has.
template <class R>
struct RealTraits {
  using Scalar = R;
  static constexpr int kWidth = 1;
};

ECG_HD float select(bool condition, float a, float b) { return condition ? a : b; }
ECG_HD double select(bool condition, double a, double b) { return condition ? a : b; }

ECG_HD float sum_lanes(float x) { return x; }
ECG_HD double sum_lanes(double x) { return x; }

// Device code has no vector types; there R is always a scalar.
#if !defined(__CUDACC__)

template <class T, int W>
struct Pack {
  typedef T Vector __attribute__((vector_size(W * sizeof(T))));
  // The same lanes as they lie in memory: no alignment is promised by callers.
  typedef T Unaligned __attribute__((vector_size(W * sizeof(T)), aligned(alignof(T)), may_alias));

  Vector lanes;

  Pack() = default;
  ECG_HD Pack(Vector v) : lanes(v) {}
  // Any arithmetic scalar, so that R(0) and R(0.5) read alike for every R. x - 0 is exact in each
  // lane.
  template <class S, class = std::enable_if_t<std::is_arithmetic_v<S>>>
  ECG_HD Pack(S x) : lanes(static_cast<T>(x) - Vector{}) {}

  static ECG_HD Pack load(const T* from) { return Pack(*reinterpret_cast<const Unaligned*>(from)); }
  ECG_HD void store(T* to) const { *reinterpret_cast<Unaligned*>(to) = lanes; }

  ECG_HD T operator[](int lane) const { return lanes[lane]; }

  ECG_HD Pack operator-() const { return Pack(-lanes); }
  friend ECG_HD Pack operator+(Pack a, Pack b) { return Pack(a.lanes + b.lanes); }
  friend ECG_HD Pack operator-(Pack a, Pack b) { return Pack(a.lanes - b.lanes); }
  friend ECG_HD Pack operator*(Pack a, Pack b) { return Pack(a.lanes * b.lanes); }
  friend ECG_HD Pack operator/(Pack a, Pack b) { return Pack(a.lanes / b.lanes); }
  ECG_HD Pack& operator+=(Pack b) {
    lanes += b.lanes;
    return *this;
  }
  ECG_HD Pack& operator-=(Pack b) {
    lanes -= b.lanes;
    return *this;
  }
  ECG_HD Pack& operator*=(Pack b) {
    lanes *= b.lanes;
    return *this;
  }

  friend ECG_HD auto operator<(Pack a, Pack b) { return a.lanes < b.lanes; }
  friend ECG_HD auto operator>(Pack a, Pack b) { return a.lanes > b.lanes; }
  friend ECG_HD auto operator==(Pack a, Pack b) { return a.lanes == b.lanes; }
};

// condition ? a : b in each lane; the condition comes from a comparison of packs.
template <class Mask, class T, int W>
ECG_HD Pack<T, W> select(Mask condition, Pack<T, W> a, Pack<T, W> b) {
  return Pack<T, W>(condition ? a.lanes : b.lanes);
}

// Lists of indices for the compiler's shuffles; this file is compiled once per instruction set, so
// nothing of std.
template <int... i>
struct Indices {};
template <int n, int... i>
struct MakeIndices : MakeIndices<n - 1, n - 1, i...> {};
template <int... i>
struct MakeIndices<0, i...> {
  using type = Indices<i...>;
};

// Sum of the lanes in a fixed order (halves folded together), so that results do not depend on
// anything but W.
template <class T>
ECG_HD T sum_lanes(Pack<T, 1> p) {
  return p[0];
}
template <class T, int W, int... i>
ECG_HD Pack<T, W / 2> fold(Pack<T, W> p, Indices<i...>) {
  const typename Pack<T, W / 2>::Vector low = __builtin_shufflevector(p.lanes, p.lanes, i...);
  const typename Pack<T, W / 2>::Vector high =
      __builtin_shufflevector(p.lanes, p.lanes, (i + W / 2)...);
  return {low + high};
}
template <class T, int W>
ECG_HD T sum_lanes(Pack<T, W> p) {
  return sum_lanes(fold(p, typename MakeIndices<W / 2>::type{}));
}

// Largest lane.
template <class T, int W>
ECG_HD T max_lanes(Pack<T, W> p) {
  T part[W];
  p.store(part);
  for (int half = W / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) part[i] = part[i] < part[i + half] ? part[i + half] : part[i];
  }
  return part[0];
}

template <class T, int W>
struct RealTraits<Pack<T, W>> {
  using Scalar = T;
  static constexpr int kWidth = W;
};

#endif

template <class R>
ECG_HD R load_real(const typename RealTraits<R>::Scalar* from) {
  if constexpr (RealTraits<R>::kWidth == 1) {
    return *from;
  } else {
    return R::load(from);
  }
}
template <class R>
ECG_HD void store_real(typename RealTraits<R>::Scalar* to, R x) {
  if constexpr (RealTraits<R>::kWidth == 1) {
    *to = x;
  } else {
    x.store(to);
  }
}

ECG_MATH_END

// SPDX-License-Identifier: MIT
//
// ComplexPack<T, W>: W/2 complex numbers in one register as they lie in memory, real and imaginary
// parts in turn. Sums, real factors and real parts of products need no shuffle then, and a complex
// product three within its pairs; to split a register into real and imaginary parts and join them
// again costs more wherever a number is met only once or twice.
//
// A real factor is a Pack of W equal lanes; a real part (real_of_product) is a Pack of W parts of
// it, for sum_lanes.
#pragma once

#include "ecgcore/math/complex.h"
#include "ecgcore/math/pack.h"

ECG_MATH_BEGIN

template <class T, int W>
struct ComplexPack {
  using R = Pack<T, W>;
  using Lanes = typename MakeIndices<W>::type;
  R lanes;

  static ECG_HD ComplexPack load(const T* from) { return {R::load(from)}; }
  ECG_HD void store(T* to) const { lanes.store(to); }

  // The first `count` < W reals; the other lanes are zero, and are not stored.
  static ECG_HD ComplexPack load(const T* from, int64_t count) {
    T some[W] = {};
    for (int64_t i = 0; i < count; ++i) some[i] = from[i];
    return load(some);
  }
  ECG_HD void store(T* to, int64_t count) const {
    T some[W];
    store(some);
    for (int64_t i = 0; i < count; ++i) to[i] = some[i];
  }

  friend ECG_HD ComplexPack operator+(ComplexPack a, ComplexPack b) { return {a.lanes + b.lanes}; }
  friend ECG_HD ComplexPack operator-(ComplexPack a, ComplexPack b) { return {a.lanes - b.lanes}; }
  friend ECG_HD ComplexPack operator*(R a, ComplexPack b) { return {a * b.lanes}; }
  friend ECG_HD ComplexPack operator*(ComplexPack a, ComplexPack b) {
    const R swapped = shuffled(b.lanes, Lanes{}, Swap{});
    return {shuffled(a.lanes, Lanes{}, Real{}) * b.lanes +
            shuffled(a.lanes, Lanes{}, Imaginary{}) * alternating(swapped, Lanes{}, T(-1))};
  }
  ECG_HD ComplexPack& operator+=(ComplexPack b) {
    lanes += b.lanes;
    return *this;
  }
  ECG_HD ComplexPack& operator-=(ComplexPack b) {
    lanes -= b.lanes;
    return *this;
  }
  friend ECG_HD ComplexPack conj(ComplexPack a) { return {alternating(a.lanes, Lanes{}, T(1))}; }

  // Re(a b) and Re(ā b)
  friend ECG_HD R real_of_product(ComplexPack a, ComplexPack b) { return conj(a).lanes * b.lanes; }
  friend ECG_HD R real_of_inner(ComplexPack a, ComplexPack b) { return a.lanes * b.lanes; }

 private:
  // Which lane comes to lane i.
  struct Real {
    static constexpr int of(int i) { return i - i % 2; }
  };
  struct Imaginary {
    static constexpr int of(int i) { return i - i % 2 + 1; }
  };
  struct Swap {
    static constexpr int of(int i) { return i - i % 2 + 1 - i % 2; }
  };
  template <int... i, class From>
  static ECG_HD R shuffled(R x, Indices<i...>, From) {
    return R(__builtin_shufflevector(x.lanes, x.lanes, From::of(i)...));
  }
  // Even lanes times `first`, odd lanes times -first.
  template <int... i>
  static ECG_HD R alternating(R x, Indices<i...>, T first) {
    const typename R::Vector signs = {(i % 2 == 0 ? first : -first)...};
    return R(x.lanes * signs);
  }
};

ECG_MATH_END

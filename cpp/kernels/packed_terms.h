// SPDX-License-Identifier: MIT
//
// One step of the sums of packed_tiles.h: a number of x, or a pair of them, times a vector of
// weights.
#pragma once

// The tile unit, or its emulation, multiplies pairs: tile_unit.h.
#if defined(__AMX_BF16__) || defined(ECG_EMULATE_TILES)
#define ECG_TILES 1
#else
#define ECG_TILES 0
#endif

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include "ecgcore/kernels/packed_linear.h"
#include "ecgcore/math/pack.h"

namespace ecg::cpu::ECG_ISA {
namespace {

template <class T>
using VectorOf = Pack<T, kLanes<T>>;

ECG_HD BFloat16Pair rounded_pair(float even, float odd) {
  const uint32_t low = from_real<BFloat16>(even).bits, high = from_real<BFloat16>(odd).bits;
  return {low | high << 16};
}

template <class W>
struct Terms {
  using R = VectorOf<W>;
  using X = W;
  using Weights = R;
  static constexpr int kRegisters = 1;        // of one vector of weights
  static constexpr bool kCopiesRows = false;  // x is read where it lies
  static constexpr int64_t kStepsAtOnce = 1;  // rows that are copied end with a multiple of them

  static ECG_HD Weights load(const W* from) { return R::load(from); }
  static ECG_HD void add(R& sum, X x, const Weights& w) { sum += R(x) * w; }
};

#if ECG_TILES

// What packed_amx.h reads; it has the sums.
template <>
struct Terms<BFloat16Pair> {
  using X = BFloat16Pair;
  static constexpr int kRegisters = 1;
  static constexpr bool kCopiesRows = true;
  static constexpr int64_t kStepsAtOnce = 16;

  static ECG_HD X round(float even, float odd) { return rounded_pair(even, odd); }
};

#elif defined(__AVX512BF16__)

// VDPBF16PS: sum + x_odd w_odd + x_even w_even in each lane, in float.
template <>
struct Terms<BFloat16Pair> {
  using R = VectorOf<float>;
  using X = BFloat16Pair;
  using Weights = __m512bh;
  static constexpr int kRegisters = 1;
  static constexpr bool kCopiesRows = true;
  static constexpr int64_t kStepsAtOnce = 1;

  static ECG_HD Weights load(const BFloat16Pair* from) {
    return reinterpret_cast<__m512bh>(_mm512_loadu_si512(from));
  }
  static ECG_HD void add(R& sum, X x, const Weights& w) {
    const __m512bh pairs = reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(x.bits)));
    sum.lanes = _mm512_dpbf16_ps(sum.lanes, pairs, w);
  }
  static ECG_HD X round(float even, float odd) { return rounded_pair(even, odd); }
};

#else

// The same products where the processor has none of bfloat16: of floats, rounded before.
template <>
struct Terms<BFloat16Pair> {
  using R = VectorOf<float>;
  struct X {
    float even, odd;
  };
  struct Weights {
    R even, odd;
  };
  static constexpr int kRegisters = 2;
  static constexpr bool kCopiesRows = true;
  static constexpr int64_t kStepsAtOnce = 1;

  static ECG_HD Weights load(const BFloat16Pair* from) {
    using Bits = Pack<uint32_t, kLanes<float>>;
    const auto bits = Bits::load(reinterpret_cast<const uint32_t*>(from)).lanes;
    const typename Bits::Vector low = bits << 16, high = bits & 0xffff0000u;
    return {R(reinterpret_cast<typename R::Vector>(low)),
            R(reinterpret_cast<typename R::Vector>(high))};
  }
  static ECG_HD void add(R& sum, X x, const Weights& w) {
    sum += R(x.even) * w.even;
    sum += R(x.odd) * w.odd;
  }
  static ECG_HD X round(float even, float odd) {
    return {to_real<float>(from_real<BFloat16>(even)), to_real<float>(from_real<BFloat16>(odd))};
  }
};

#endif

}  // namespace
}  // namespace ecg::cpu::ECG_ISA

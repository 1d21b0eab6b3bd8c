// SPDX-License-Identifier: MIT
//
// Counter-based random numbers: Philox-4x32 with ten rounds (Salmon, Moraes, Dror and Shaw 2011,
// "Parallel random numbers: as easy as 1, 2, 3") and what is made of its bits, for one counter or,
// on the CPU, lanes of them. The counter of a block of four numbers is (block, draw, record's low
// word, record's high word), the key is the seed.
#pragma once

#include "ecgcore/math/complex_exp.h"

namespace ecg {

struct PhiloxKey {
  uint32_t low, high;
};

}  // namespace ecg

ECG_MATH_BEGIN

#if !defined(__CUDACC__)  // device code has no vector types
// W unsigned 64-bit integers as one.
template <int W>
struct PackIntegers {
  typedef uint64_t Vector __attribute__((vector_size(W * 8)));
  Vector lanes;

  PackIntegers() = default;
  ECG_HD PackIntegers(Vector v) : lanes(v) {}
  template <class S, class = std::enable_if_t<std::is_integral_v<S>>>
  ECG_HD PackIntegers(S x) : lanes(static_cast<uint64_t>(x) - Vector{}) {}

  friend ECG_HD PackIntegers operator*(PackIntegers a, PackIntegers b) { return a.lanes * b.lanes; }
  friend ECG_HD PackIntegers operator^(PackIntegers a, PackIntegers b) { return a.lanes ^ b.lanes; }
  friend ECG_HD PackIntegers operator&(PackIntegers a, PackIntegers b) { return a.lanes & b.lanes; }
  friend ECG_HD PackIntegers operator>>(PackIntegers a, int bits) { return a.lanes >> bits; }
};
#endif

// Words of 32 bits, each in an I of 64.
template <class I>
ECG_HD void philox_round(I (&word)[4], PhiloxKey key) {
  const I mask(0xffffffffu);
  const I first = word[0] * I(0xd2511f53u), second = word[2] * I(0xcd9e8d57u);
  word[0] = (second >> 32) ^ word[1] ^ I(key.low);
  word[1] = second & mask;
  word[2] = (first >> 32) ^ word[3] ^ I(key.high);
  word[3] = first & mask;
}

template <class I>
ECG_HD void philox4x32(I (&word)[4], PhiloxKey key) {
  for (int round = 0; round < 10; ++round) {
    philox_round(word, key);
    key.low += 0x9e3779b9u;  // golden ratio and sqrt(3) - 1, as fractions of 2^32
    key.high += 0xbb67ae85u;
  }
}

// A word as a real number, exactly.
ECG_HD double real_of_word(uint64_t word) { return static_cast<double>(word); }

ECG_HD double log(double x) { return ::log(x); }
ECG_HD double sqrt(double x) { return ::sqrt(x); }

#if !defined(__CUDACC__)
template <int W>
ECG_HD Pack<double, W> real_of_word(PackIntegers<W> word) {
  using R = Pack<double, W>;
  // The low bits of 2^52 count ones.
  const auto bits = word.lanes | uint64_t{0x4330000000000000};
  return R((typename R::Vector)bits) - R(4503599627370496.0);
}

// Of normal numbers; relative error 5e-16. x = 2^k f with f in [sqrt(1/2), sqrt(2)), s = (f - 1)/(f
// + 1): log f = 2 artanh(s) = 2 (s + s^3/3 + s^5/5 + ...), s^2 < 0.0295; ln 2 in two pieces, so
// that k times the first is exact.
template <int W>
ECG_HD Pack<double, W> log(Pack<double, W> x) {
  using R = Pack<double, W>;
  using V = typename R::Vector;
  using Bits = typename PackBits<double, W>::Vector;
  constexpr int64_t kSqrtHalf = 0x3fe6a09e667f3bcd;
  const Bits above = (Bits)x.lanes - kSqrtHalf;
  const Bits k = above >> 52;
  const R f((V)((Bits)x.lanes - (k << 52)));
  const R exponent = R((V)((k + 2048) | 0x4330000000000000)) - R(4503599627370496.0 + 2048.0);
  const R s = (f - R(1)) / (f + R(1));
  constexpr double kSeries[] = {2.0 / 3,  2.0 / 5,  2.0 / 7,  2.0 / 9,  2.0 / 11,
                                2.0 / 13, 2.0 / 15, 2.0 / 17, 2.0 / 19, 2.0 / 21};
  const R t = s * s;
  const R rest = s * t * polynomial(kSeries, t) + exponent * R(1.90821492927058770002e-10);
  return exponent * R(6.93147180369123816490e-01) + (R(2) * s + rest);
}

template <int W>
ECG_HD Pack<double, W> sqrt(Pack<double, W> x) {
  for (int i = 0; i < W; ++i) x.lanes[i] = __builtin_sqrt(x.lanes[i]);
  return x;
}
#endif

// Two independent standard normal numbers from two words (Box and Muller 1958): the first gives the
// radius, the second the angle. The half keeps the logarithm's argument off zero.
template <class R, class I>
ECG_HD void normal_pair(I first, I second, R& a, R& b) {
  const R radius = sqrt(R(-2) * log((real_of_word(first) + R(0.5)) * R(0x1p-32)));
  const SineCosine<R> turn =
      sine_cosine(real_of_word(second) * R(6.28318530717958647693 * 0x1p-32));
  a = radius * turn.cos;
  b = radius * turn.sin;
}

// In (-1, 1).
template <class R, class I>
ECG_HD R uniform_of_word(I word) {
  return (real_of_word(word) + R(0.5)) * R(0x1p-31) - R(1);
}

// The four numbers of a block.
template <class R, class I>
ECG_HD void philox_numbers(I (&word)[4], PhiloxKey key, bool normal, R (&out)[4]) {
  philox4x32(word, key);
  if (normal) {
    normal_pair(word[0], word[1], out[0], out[1]);
    normal_pair(word[2], word[3], out[2], out[3]);
  } else {
    for (int i = 0; i < 4; ++i) out[i] = uniform_of_word<R>(word[i]);
  }
}

ECG_MATH_END

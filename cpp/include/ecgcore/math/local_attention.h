// SPDX-License-Identifier: MIT
//
// Three-block local attention: which keys a query meets, and the softmax in pieces.
//
// The sequence is cut into blocks of T; a query of block n meets the 3 T columns of blocks n - 1, n
// and n + 1, a column being a key or, outside the sequence, a vector of zeros whose logit is 0. A
// softmax over pieces keeps for every row the largest logit m and the sum l of e^(x - m) so far; a
// piece with a larger m scales what was summed before by e^(m_old - m) (Milakov, Gimelshein 2018,
// "Online normalizer calculation for softmax"; Dao et al. 2022, "FlashAttention", section 3.1).
// Backward recomputes p = e^(x - m) / l; with y = Σ p v and g the gradient of y
//   δ = g·y,   dv_c = Σ p g,   dx_c = p (g·v_c - δ),   dq = s Σ dx k,   dk_c = s Σ dx q,   dbias =
//   dx.
// m and l are kept apart: where every logit has lost 1e10, m + log l is m again.
#pragma once

#include "ecgcore/math/elementary.h"

namespace ecg {

// Added to logits where the mask forbids.
inline constexpr double kAttentionMasked = -1e10;

// Columns begin <= c < end, by the place c = j they have, or would have, in the sequence.
struct KeyRange {
  int64_t begin, end;

  ECG_HD bool has(int64_t column) const { return begin <= column && column < end; }
  ECG_HD int64_t count() const { return end > begin ? end - begin : 0; }
  ECG_HD KeyRange within(KeyRange other) const {
    return {begin > other.begin ? begin : other.begin, end < other.end ? end : other.end};
  }
};

struct LocalAttentionShape {
  int64_t batch, heads, length, width, block;
  int64_t window;  // 2 T or more: none
  bool pad_keys_attend;

  ECG_HD int64_t blocks() const { return (length + block - 1) / block; }
  ECG_HD KeyRange sequence() const { return {0, length}; }
  // The queries of block n.
  ECG_HD KeyRange queries(int64_t n) const {
    return KeyRange{n * block, (n + 1) * block}.within(sequence());
  }
  // The columns of block n, and those of them that queries first .. last of it may meet.
  ECG_HD KeyRange columns(int64_t n) const { return {(n - 1) * block, (n + 2) * block}; }
  ECG_HD KeyRange columns(int64_t n, int64_t first, int64_t last) const {
    return columns(n).within({first - window, last + window + 1});
  }
  // The same; without those outside the sequence unless `outside`.
  ECG_HD KeyRange columns(int64_t n, int64_t first, int64_t last, bool outside) const {
    const KeyRange all = columns(n, first, last);
    return outside ? all : all.within(sequence());
  }
  // How many columns of query i lie outside the sequence and take part.
  ECG_HD int64_t outside(int64_t n, int64_t i) const {
    if (!pad_keys_attend) return 0;
    const KeyRange all = columns(n, i, i);
    return all.count() - all.within(sequence()).count();
  }
};

}  // namespace ecg

ECG_MATH_BEGIN

// e^(logit - top), 0 where it would leave the normal numbers: a masked key has no weight at all.
template <class R>
ECG_HD R attention_weight(R logit, R top) {
  constexpr double kLeast = sizeof(typename RealTraits<R>::Scalar) == 4 ? -87.3 : -708.0;
  const R x = logit - top;
  return select(x < R(kLeast), R(0), exp_of_negative(x));
}

// The gradient of a logit.
template <class R>
ECG_HD R attention_logit_gradient(R weight, R dweight, R delta) {
  return weight * (dweight - delta);
}

ECG_MATH_END

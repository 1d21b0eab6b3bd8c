// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "ecgcore/kernels/cpu_level.h"
#include "ecgcore/math/half.h"
#include "ecgcore/math/local_attention.h"

namespace ecg {

// A tensor (batch, heads, length, width) whose last axis is dense; strides in elements.
template <class E>
struct AttentionTensor {
  E* data;
  int64_t batch, head, row;

  ECG_HD E* slice(int64_t b, int64_t h) const { return data + b * batch + h * head; }
};

// E is the element of the sequences (float, double, Float16, BFloat16), T what is computed in, and
// what results have: backward needs them unrounded.
template <class E>
struct LocalAttentionInputs {
  using T = RealOf<E>;
  LocalAttentionShape shape;
  T scale;
  AttentionTensor<const E> q, k, v;
  const T* bias;        // (heads, T, 3 T), or null
  const uint8_t* mask;  // (batch, blocks, T, 3 T), 0 where forbidden, or null
};

// Turns products s q k of query i, in block n of slice (b, h), into logits.
template <class T>
struct AttentionRow {
  const T* bias;        // entry j is that of column j, or null
  const uint8_t* mask;  // likewise
  KeyRange met;         // columns that take part

  template <class E>
  ECG_HD AttentionRow(const LocalAttentionInputs<E>& in, int64_t b, int64_t h, int64_t n, int64_t i,
                      bool outside) {
    const LocalAttentionShape& shape = in.shape;
    const int64_t block = shape.block, t = i - n * block, origin = (n - 1) * block;
    bias = in.bias == nullptr ? nullptr : in.bias + (h * block + t) * 3 * block - origin;
    mask = in.mask == nullptr
               ? nullptr
               : in.mask + ((b * shape.blocks() + n) * block + t) * 3 * block - origin;
    met = shape.columns(n, i, i, outside);
  }

  // For a column that takes part.
  ECG_HD T logit(T product, int64_t column) const {
    if (bias != nullptr) product += bias[column];
    if (mask != nullptr && mask[column] == 0) product += T(kAttentionMasked);
    return product;
  }
};

template <class E>
struct LocalAttentionArgs {
  LocalAttentionInputs<E> in;
  AttentionTensor<RealOf<E>> out;
  RealOf<E>* stats;  // (batch, heads, length, 2): largest logit, and sum of e^(logit - largest)

  // Columns outside the sequence are counted where they all have the logit 0, else computed.
  ECG_HD bool computes_outside() const {
    return in.shape.pad_keys_attend && (in.bias != nullptr || in.mask != nullptr);
  }
};

// Adjoint. Pointers of gradients nobody wants are null.
template <class E>
struct LocalAttentionBackwardArgs {
  using T = RealOf<E>;
  LocalAttentionInputs<E> in;
  AttentionTensor<const T> out, grad;
  const T* stats;
  AttentionTensor<E> dq, dk, dv;
  T* dbias;  // (heads, T, 3 T); the CPU kernels add to what it holds

  // Only the bias has a gradient outside the sequence.
  ECG_HD bool computes_outside() const { return in.shape.pad_keys_attend && dbias != nullptr; }
};

// Both work on a range of tasks: block n of slice (b, h) is task (h * batch + b) * blocks + n.
// Results do not depend on where ranges end, but where dbias is wanted a range holds whole heads.
// `workspace` is private to the call, aligned to 64 bytes.
template <class E>
struct LocalAttentionKernels {
  // Sizes of the workspace, in doubles.
  int64_t (*forward_workspace)(const LocalAttentionArgs<E>&);
  int64_t (*backward_workspace)(const LocalAttentionBackwardArgs<E>&);
  void (*forward)(const LocalAttentionArgs<E>&, double* workspace, int64_t begin, int64_t end);
  void (*backward)(const LocalAttentionBackwardArgs<E>&, double* workspace, int64_t begin,
                   int64_t end);
};

}  // namespace ecg

ECG_KERNEL_TABLE(LocalAttentionKernels, local_attention_kernels)

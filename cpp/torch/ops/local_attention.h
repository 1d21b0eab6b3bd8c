// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "../backend_cpu.h"
#include "../check.h"
#include "../library.h"
#include "ecgcore/kernels/local_attention.h"

namespace ecg::torch_abi {

// How the kernels are started on each backend. E is the element of the sequences.
template <class Backend, class E>
struct LocalAttentionRun;

template <class E>
struct LocalAttentionRun<Cpu, E> {
  using T = RealOf<E>;

  // Multiply-adds of a block's queries with its three blocks of keys.
  static int64_t cost(const LocalAttentionShape& shape) {
    const int64_t rows = std::min(shape.block, shape.length);
    return 6 * rows * rows * shape.width;
  }
  static void forward(const LocalAttentionArgs<E>& args) {
    const auto kernels = cpu::local_attention_kernels<E>();
    const LocalAttentionShape& shape = args.in.shape;
    const int64_t tasks = shape.heads * shape.batch * shape.blocks();
    Cpu::rows_with_scratch(tasks, cost(shape), kernels.forward_workspace(args),
                           [&](double* workspace, int64_t begin, int64_t end) {
                             kernels.forward(args, workspace, begin, end);
                           });
  }
  static void backward(const LocalAttentionBackwardArgs<E>& args) {
    const auto kernels = cpu::local_attention_kernels<E>();
    const LocalAttentionShape& shape = args.in.shape;
    int64_t unit = 1;
    if (args.dbias != nullptr) {
      std::fill_n(args.dbias, shape.heads * 3 * shape.block * shape.block, T(0));
      unit = shape.batch * shape.blocks();
    }
    const int64_t units = shape.batch == 0 ? 0 : shape.heads * shape.batch * shape.blocks() / unit;
    Cpu::rows_with_scratch(units, unit * cost(shape), kernels.backward_workspace(args),
                           [&](double* workspace, int64_t begin, int64_t end) {
                             kernels.backward(args, workspace, begin * unit, end * unit);
                           });
  }
};

namespace detail {

// A dense tensor in the order of axes that the strides of `like` have, the last axis last, so that
// what is split into heads and permuted keeps its place in memory.
inline Tensor empty_in_order(const Tensor& like, DType dtype) {
  const std::vector<int64_t> sizes = like.sizes(), given = like.strides();
  std::array<size_t, 3> axes{0, 1, 2};
  std::stable_sort(axes.begin(), axes.end(),
                   [&](size_t a, size_t b) { return given[a] > given[b]; });
  std::vector<int64_t> strides(4, 1);
  int64_t step = std::max<int64_t>(sizes[3], 1);
  for (size_t i = 3; i-- > 0;) {
    strides[axes[i]] = step;
    step *= std::max<int64_t>(sizes[axes[i]], 1);
  }
  return empty_strided(sizes, strides, dtype, like.device());
}

inline void check_sequence(const Check& check, const Tensor& x, const char* name, const Tensor& q,
                           DType dtype) {
  check.dtype(x, name, {dtype});
  check.device(x, name, q.device());
  check.shape(x, name, "(B, heads, L, d)", q.sizes());
  check.that(x.numel() == 0 || x.size(3) == 1 || x.strides()[3] == 1,
             std::string(name) + " must be contiguous along its last axis");
}

// What forward and backward are given in common, after checks.
struct LocalAttentionCall {
  const Tensor &q, &k, &v;
  const std::optional<Tensor>&bias, &mask;
  LocalAttentionShape shape;
  double scale;

  LocalAttentionCall(const Check& check, const Tensor& queries, const Tensor& keys,
                     const Tensor& values, int64_t block, const std::optional<Tensor>& added,
                     const std::optional<Tensor>& allowed, double factor, bool pad_keys_attend,
                     std::optional<int64_t> window)
      : q(queries), k(keys), v(values), bias(added), mask(allowed), scale(factor) {
    check.dtype(q, "q", {DType::f32, DType::f64, DType::bf16, DType::f16});
    check.shape(q, "q", "(B, heads, L, d)", {-1, -1, -1, -1});
    check.at_least(q.size(1), "the number of heads", 1);
    check.at_least(q.size(2), "the length of q", 1);
    check.at_least(q.size(3), "the width of q", 1);
    check_sequence(check, q, "q", q, q.dtype());
    check_sequence(check, k, "k", q, q.dtype());
    check_sequence(check, v, "v", q, q.dtype());
    check.at_least(block, "block_length", 1);
    check.that(!window || (0 <= *window && *window <= block),
               "window must lie in 0..block_length = 0.." + std::to_string(block) + ", got " +
                   std::to_string(window.value_or(0)));
    shape = {q.size(0),      q.size(1), q.size(2), q.size(3), block, window.value_or(2 * block),
             pad_keys_attend};
    if (bias) {
      check.operand(*bias, "bias", real(), q.device(), "(heads, T, 3 T)",
                    {shape.heads, block, 3 * block});
    }
    if (mask) {
      check.operand(*mask, "mask", DType::boolean, q.device(), "(B, 1, nb, T, 3 T)",
                    {shape.batch, 1, shape.blocks(), block, 3 * block});
    }
  }

  // What is computed in.
  DType real() const { return q.dtype() == DType::f64 ? DType::f64 : DType::f32; }

  template <class E>
  static AttentionTensor<const E> reading(const Tensor& x) {
    const auto strides = x.strides();
    return {x.data<E>(), strides[0], strides[1], strides[2]};
  }
  template <class E>
  static AttentionTensor<E> writing(const Tensor& x) {
    if (x.dim() != 4) return {nullptr, 0, 0, 0};
    const auto strides = x.strides();
    return {x.mutable_data<E>(), strides[0], strides[1], strides[2]};
  }
  template <class E>
  LocalAttentionInputs<E> inputs() const {
    using T = RealOf<E>;
    return {shape,
            static_cast<T>(scale),
            reading<E>(q),
            reading<E>(k),
            reading<E>(v),
            bias ? bias->data<T>() : nullptr,
            mask ? mask->data<uint8_t>() : nullptr};
  }
};

// Bytes from the first number of a non-empty tensor to behind the last, strides being positive.
inline std::pair<const char*, const char*> extent(const Tensor& x) {
  int64_t last = 0;
  for (int64_t axis = 0; axis < x.dim(); ++axis) last += (x.size(axis) - 1) * x.strides()[axis];
  const int64_t bytes = x.dtype() == DType::f64 ? 8 : x.dtype() == DType::f32 ? 4 : 2;
  const auto* data = x.data<char>();
  return {data, data + (last + 1) * bytes};
}

inline void check_apart_from(const Check& check, const Tensor& written, const char* name,
                             const Tensor& read, const char* read_name) {
  const auto to = extent(written), from = extent(read);
  check.that(to.second <= from.first || from.second <= to.first,
             std::string(name) + " must not share memory with " + read_name);
}

// Calls run with an element of the dtype's type.
template <class Run>
void with_element(DType dtype, const Run& run) {
  switch (dtype) {
    case DType::f64:
      return run(double());
    case DType::f16:
      return run(Float16());
    case DType::bf16:
      return run(BFloat16());
    default:
      return run(float());
  }
}

}  // namespace detail

// The output, unrounded, and for the backward pass the maximum and the sum of each row's softmax.
template <class Backend>
std::tuple<Tensor, Tensor> local_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                           int64_t block_length, std::optional<Tensor> bias,
                                           std::optional<Tensor> mask, double scale,
                                           bool pad_keys_attend, std::optional<int64_t> window) {
  const detail::LocalAttentionCall call(Check("local_attention"), q, k, v, block_length, bias, mask,
                                        scale, pad_keys_attend, window);
  Tensor out = detail::empty_in_order(q, call.real());
  Tensor stats = empty({q.size(0), q.size(1), q.size(2), 2}, call.real(), q.device());
  if (out.numel() > 0) {
    detail::with_element(q.dtype(), [&](auto element) {
      using E = decltype(element);
      LocalAttentionRun<Backend, E>::forward(
          {call.inputs<E>(), call.writing<RealOf<E>>(out), stats.mutable_data<RealOf<E>>()});
    });
  }
  return {std::move(out), std::move(stats)};
}

// The same into tensors of the caller's: `out` like q but for the dtype, `stats` (B, heads, L, 2).
template <class Backend>
void local_attention_into(const Tensor& q, const Tensor& k, const Tensor& v, int64_t block_length,
                          std::optional<Tensor> bias, std::optional<Tensor> mask, double scale,
                          bool pad_keys_attend, std::optional<int64_t> window,
                          const Written<'a'>& out, const Written<'b'>& stats) {
  const Check check("local_attention_into");
  const detail::LocalAttentionCall call(check, q, k, v, block_length, bias, mask, scale,
                                        pad_keys_attend, window);
  detail::check_sequence(check, out, "out", q, call.real());
  check.operand(stats, "stats", call.real(), q.device(), "(B, heads, L, 2)",
                {q.size(0), q.size(1), q.size(2), 2});
  if (out.numel() == 0) return;
  const auto apart = [&](const Tensor& written, const char* name) {
    detail::check_apart_from(check, written, name, q, "q");
    detail::check_apart_from(check, written, name, k, "k");
    detail::check_apart_from(check, written, name, v, "v");
  };
  apart(out, "out");
  apart(stats, "stats");
  detail::with_element(q.dtype(), [&](auto element) {
    using E = decltype(element);
    LocalAttentionRun<Backend, E>::forward(
        {call.inputs<E>(), call.writing<RealOf<E>>(out), stats.mutable_data<RealOf<E>>()});
  });
}

// Gradients of q, k, v and bias in this order; those not wanted are empty.
template <class Backend>
std::tuple<Tensor, Tensor, Tensor, Tensor> local_attention_backward(
    const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
    const Tensor& stats, int64_t block_length, std::optional<Tensor> bias,
    std::optional<Tensor> mask, double scale, bool pad_keys_attend, std::optional<int64_t> window,
    std::vector<bool> wanted) {
  const Check check("local_attention_backward");
  const detail::LocalAttentionCall call(check, q, k, v, block_length, bias, mask, scale,
                                        pad_keys_attend, window);
  detail::check_sequence(check, grad, "grad", q, call.real());
  detail::check_sequence(check, out, "out", q, call.real());
  const DType real = call.real();
  check.operand(stats, "stats", real, q.device(), "(B, heads, L, 2)",
                {q.size(0), q.size(1), q.size(2), 2});
  check.that(wanted.size() == 4, "wanted must name q, k, v, bias");
  check.that(bias.has_value() || !wanted[3],
             "the gradient of bias is wanted, but there is no bias");
  const auto make = [&](const Tensor& like, bool want) {
    return want ? detail::empty_in_order(like, like.dtype()) : nothing_like(like);
  };
  Tensor dq = make(q, wanted[0]), dk = make(k, wanted[1]), dv = make(v, wanted[2]);
  Tensor dbias = wanted[3] ? empty(bias->sizes(), real, q.device()) : empty({0}, real, q.device());
  detail::with_element(q.dtype(), [&](auto element) {
    using E = decltype(element);
    using T = RealOf<E>;
    LocalAttentionRun<Backend, E>::backward(
        {call.inputs<E>(), call.reading<T>(out), call.reading<T>(grad), stats.data<T>(),
         call.writing<E>(dq), call.writing<E>(dk), call.writing<E>(dv),
         wanted[3] ? dbias.mutable_data<T>() : nullptr});
  });
  return {std::move(dq), std::move(dk), std::move(dv), std::move(dbias)};
}

}  // namespace ecg::torch_abi

// SPDX-License-Identifier: MIT
#include <optional>

#include "ecgcore/cuda/local_attention_backward.h"
#include "emulate.h"

namespace ecg::emulate {
namespace {

template <class E>
AttentionTensor<E> dense(E* data, const LocalAttentionShape& shape) {
  const int64_t head = shape.length * shape.width;
  return {data, shape.heads * head, head, shape.width};
}

// What forward and backward are given in common.
template <class E>
struct Given {
  using T = RealOf<E>;
  const Array<T>& like;
  std::vector<E> q, k, v;
  LocalAttentionInputs<E> in;

  Given(const Array<T>& queries, const Array<T>& keys, const Array<T>& values, int64_t block,
        const std::optional<Array<T>>& bias, const std::optional<Array<uint8_t>>& mask,
        double scale, bool pad_keys_attend, std::optional<int64_t> window)
      : like(queries), q(elements<E>(queries)), k(elements<E>(keys)), v(elements<E>(values)) {
    in.shape = {like.shape(0),  like.shape(1), like.shape(2),
                like.shape(3),  block,         window.value_or(2 * block),
                pad_keys_attend};
    in.scale = static_cast<T>(scale);
    in.q = dense<const E>(q.data(), in.shape);
    in.k = dense<const E>(k.data(), in.shape);
    in.v = dense<const E>(v.data(), in.shape);
    in.bias = bias ? bias->data() : nullptr;
    in.mask = mask ? mask->data() : nullptr;
  }
  std::vector<py::ssize_t> sizes() const {
    return {like.shape(0), like.shape(1), like.shape(2), like.shape(3)};
  }
};

// The output and the statistics of each row.
template <class E>
py::tuple forward(const Given<E>& given, const Emulate& start) {
  using T = RealOf<E>;
  auto out = poisoned<T>(given.sizes());
  auto stats = poisoned<T>({given.like.shape(0), given.like.shape(1), given.like.shape(2), 2});
  const LocalAttentionArgs<E> args{given.in, dense(out.mutable_data(), given.in.shape),
                                   stats.mutable_data()};
  check(cuda::local_attention_forward_programs(args, start));
  return py::make_tuple(out, stats);
}

// Gradients of q, k, v, bias; those not wanted stay as they were: NaN.
template <class E>
py::tuple backward(const Given<E>& given, const Array<RealOf<E>>& grad, const Array<RealOf<E>>& out,
                   const Array<RealOf<E>>& stats, const std::vector<bool>& wanted,
                   const Emulate& start) {
  using T = RealOf<E>;
  const LocalAttentionShape& shape = given.in.shape;
  std::vector<E> dq = elements<E>(poisoned<T>(given.sizes())), dk = dq, dv = dq;
  auto dbias = poisoned<T>({shape.heads, shape.block, 3 * shape.block});
  LocalAttentionBackwardArgs<E> args{};
  args.in = given.in;
  args.out = dense<const T>(out.data(), shape);
  args.grad = dense<const T>(grad.data(), shape);
  args.stats = stats.data();
  if (wanted.at(0)) args.dq = dense(dq.data(), shape);
  if (wanted.at(1)) args.dk = dense(dk.data(), shape);
  if (wanted.at(2)) args.dv = dense(dv.data(), shape);
  if (wanted.at(3)) args.dbias = dbias.mutable_data();
  auto scratch = poisoned<T>({cuda::local_attention_backward_scratch(args)});
  check(cuda::local_attention_backward_programs(args, scratch.mutable_data(), start));
  return py::make_tuple(reals_of<E>(dq, given.sizes()), reals_of<E>(dk, given.sizes()),
                        reals_of<E>(dv, given.sizes()), dbias);
}

template <class T>
void bind(py::module_& m) {
  using Real = const Array<T>&;
  using Bias = const std::optional<Array<T>>&;
  using Mask = const std::optional<Array<uint8_t>>&;
  using Window = std::optional<int64_t>;
  m.def("local_attention", [](Real q, Real k, Real v, int64_t block, Bias bias, Mask mask,
                              double scale, bool pad_keys_attend, Window window,
                              const std::string& dtype, const std::string& order, uint64_t seed) {
    const Emulate start{order_of(order), seed};
    return with_element<T>(dtype, [&]<class E>() {
      return forward<E>({q, k, v, block, bias, mask, scale, pad_keys_attend, window}, start);
    });
  });
  m.def("local_attention_backward",
        [](Real grad, Real q, Real k, Real v, Real out, Real stats, int64_t block, Bias bias,
           Mask mask, double scale, bool pad_keys_attend, Window window,
           const std::vector<bool>& wanted, const std::string& dtype, const std::string& order,
           uint64_t seed) {
          const Emulate start{order_of(order), seed};
          return with_element<T>(dtype, [&]<class E>() {
            return backward<E>({q, k, v, block, bias, mask, scale, pad_keys_attend, window}, grad,
                               out, stats, wanted, start);
          });
        });
}

}  // namespace

void bind_local_attention(py::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace ecg::emulate

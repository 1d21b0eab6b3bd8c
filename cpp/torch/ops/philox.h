// SPDX-License-Identifier: MIT
#pragma once

#include "../backend_cpu.h"
#include "../check.h"
#include "../library.h"
#include "ecgcore/kernels/philox.h"

namespace ecg::torch_abi {

// How the kernels are started on each backend. E is the element of the result.
template <class Backend, class E>
struct PhiloxRun;

template <class E>
struct PhiloxRun<Cpu, E> {
  static void fill(const Check& check, const PhiloxArgs<E>& args) {
    check.that(0 <= *args.draw && *args.draw <= 0xffffffff,
               "draw must be in [0, 2^32), got " + std::to_string(*args.draw));
    for (int64_t i = 0; i < args.count; ++i) {
      check.that(args.records[i] >= 0,
                 "records must not be negative, got " + std::to_string(args.records[i]));
    }
    const auto kernels = cpu::philox_kernels<E>();
    const int64_t pieces = (args.size + kPhiloxPiece - 1) / kPhiloxPiece;
    Cpu::rows(args.count * pieces, 16 * kPhiloxPiece,
              [&](int64_t begin, int64_t end) { kernels.fill(args, begin, end); });
  }
};

namespace detail {

template <class Backend, class E>
void philox(const Check& check, const Tensor& records, const Tensor& draw, const Tensor& out,
            PhiloxKey key, bool normal) {
  const int64_t count = records.size(0);
  PhiloxRun<Backend, E>::fill(
      check, {records.data<int64_t>(), draw.data<int64_t>(), out.mutable_data<E>(), count,
              out.numel() / count, key, normal});
}

template <class Backend>
void philox(const Check& check, const Tensor& records, int64_t seed_low, int64_t seed_high,
            const Tensor& draw, const Tensor& out, bool normal) {
  check.dtype(records, "records", {DType::i64});
  check.shape(records, "records", "(B,)", {-1});
  check.contiguous(records, "records");
  check.dtype(out, "out", {DType::f32, DType::f64, DType::bf16, DType::f16});
  check.device(out, "out", records.device());
  check.contiguous(out, "out");
  check.that(out.dim() > 0 && out.size(0) == records.size(0),
             "out must have shape (B, ...) with B = " + std::to_string(records.size(0)) + ", got " +
                 join(out.sizes()));
  check.operand(draw, "draw", DType::i64, records.device(), "(1,)", {1});
  const auto is_word = [](int64_t x) { return 0 <= x && x <= 0xffffffff; };
  check.that(is_word(seed_low) && is_word(seed_high),
             "seed_low and seed_high must be in [0, 2^32), got " + std::to_string(seed_low) +
                 " and " + std::to_string(seed_high));
  if (out.numel() == 0) return;
  check.that(out.numel() / out.size(0) <= int64_t{4} * 0xffffffff,
             "out must have at most 2^34 - 4 numbers a record, got shape " + join(out.sizes()));
  const PhiloxKey key{static_cast<uint32_t>(seed_low), static_cast<uint32_t>(seed_high)};
  switch (out.dtype()) {
    case DType::f64:
      return philox<Backend, double>(check, records, draw, out, key, normal);
    case DType::f16:
      return philox<Backend, Float16>(check, records, draw, out, key, normal);
    case DType::bf16:
      return philox<Backend, BFloat16>(check, records, draw, out, key, normal);
    default:
      return philox<Backend, float>(check, records, draw, out, key, normal);
  }
}

}  // namespace detail

// Noise of the given records into out (B, ...). The seed in two words; draw (1,) is read when the
// kernel runs, so that a captured launch can be replayed with another one.
template <class Backend>
void philox_normal(const Tensor& records, int64_t seed_low, int64_t seed_high, const Tensor& draw,
                   const Written<'a'>& out) {
  detail::philox<Backend>(Check("philox_normal"), records, seed_low, seed_high, draw, out, true);
}
template <class Backend>
void philox_uniform(const Tensor& records, int64_t seed_low, int64_t seed_high, const Tensor& draw,
                    const Written<'a'>& out) {
  detail::philox<Backend>(Check("philox_uniform"), records, seed_low, seed_high, draw, out, false);
}

}  // namespace ecg::torch_abi

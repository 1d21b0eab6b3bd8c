// SPDX-License-Identifier: MIT
#pragma once

#include <optional>

#include "../backend_cpu.h"
#include "../check.h"
#include "../library.h"
#include "ecgcore/kernels/fft_plan.h"
#include "ecgcore/kernels/s4_conv_rows.h"
#include "s4_conv.h"

namespace ecg::torch_abi {

// How the kernels are started on each backend. E is the element of the signals.
template <class Backend, class E>
struct S4ConvRowsRun;

template <class E>
struct S4ConvRowsRun<Cpu, E> {
  using T = RealOf<E>;

  // How many features a group of the table has.
  static int64_t lanes(int64_t) { return cpu::s4_conv_rows_kernels<E>().lanes; }

  static void table(const S4ConvTableArgs<T>& args) {
    const auto kernels = cpu::s4_conv_rows_kernels<E>();
    const FftPlan<T>& plan = fft_plan<T>(args.n);
    const int64_t tasks = args.channels * ceil_div(args.features, kernels.lanes);
    Cpu::rows(tasks, 4 * args.n,
              [&](int64_t begin, int64_t end) { kernels.table(args, plan, begin, end); });
  }
  static void rows(const S4ConvRowsArgs<E>& args) {
    const auto kernels = cpu::s4_conv_rows_kernels<E>();
    const FftPlan<T>& plan = fft_plan<T>(args.n);
    const int64_t groups = ceil_div(args.features, kernels.lanes);
    // As many neighbouring groups at a time as leave every thread something to do: memory likes
    // long pieces of a row.
    uint32_t threads;
    ECG_TORCH(torch_get_num_threads, &threads);
    int64_t block = std::max<int64_t>(1, kBlockBytes / (kernels.lanes * sizeof(T)));
    while (block > 1 && args.batch * ceil_div(groups, block) < 2 * threads) block /= 2;
    const int64_t cost = args.channels * block * S4ConvRun<Cpu, E>::cost(args.n);
    const int64_t size = kernels.workspace(plan, block, args.channels);
    Cpu::rows(args.batch * ceil_div(groups, block), cost, [&](int64_t begin, int64_t end) {
      kernels.rows(args, plan, block, Scratch::of<T>(size), begin, end);
    });
  }

 private:
  static constexpr int64_t kBlockBytes = 256;
  static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
};

namespace detail {

inline int64_t size_of(DType dtype) { return is_half(dtype) ? 2 : dtype == DType::f64 ? 8 : 4; }

template <class Backend, class T>
Tensor s4_conv_table(const Tensor& spectrum, const std::optional<Tensor>& D) {
  using Run = S4ConvRowsRun<Backend, T>;
  const int64_t channels = spectrum.size(0), features = spectrum.size(1), bins = spectrum.size(2);
  const int64_t lanes = Run::lanes(features);
  Tensor table = empty({channels, (features + lanes - 1) / lanes, 2 * bins + 1, lanes},
                       DTypeOf<T>::real, spectrum.device());
  Run::table({spectrum.data<T>(), D ? D->data<T>() : nullptr, table.mutable_data<T>(), channels,
              features, 2 * (bins - 1)});
  return table;
}

template <class Backend, class E>
void s4_conv_rows(const Check& check, const Tensor& u, const Tensor& table, const Tensor& out,
                  bool gelu) {
  using T = RealOf<E>;
  using Run = S4ConvRowsRun<Backend, E>;
  const int64_t batch = u.size(0), length = u.size(1), features = u.size(2);
  const int64_t channels = table.size(0), bins = (table.size(2) - 1) / 2;
  const int64_t lanes = Run::lanes(features), groups = (features + lanes - 1) / lanes;
  check.that(table.size(3) == lanes && table.size(1) == groups,
             "table must have shape (C, groups, R, lanes) with groups = " + std::to_string(groups) +
                 " and lanes = " + std::to_string(lanes) +
                 " for the features of u, as s4_conv_table makes it on this device and "
                 "instruction set, got " +
                 join(table.sizes()));
  check.that(reinterpret_cast<uintptr_t>(table.data<T>()) % 64 == 0,
             "table must begin on a multiple of 64 bytes, as one of s4_conv_table does");
  Run::rows({u.data<E>(), table.data<T>(), out.mutable_data<E>(), batch, channels, features, length,
             2 * (bins - 1), gelu});
}

}  // namespace detail

// What s4_conv_rows multiplies with: see kernels/s4_conv_rows.h for its layout.
template <class Backend>
Tensor s4_conv_table(const Tensor& spectrum, std::optional<Tensor> D) {
  const Check check("s4_conv_table");
  check.dtype(spectrum, "spectrum", {DType::c64, DType::c128});
  check.shape(spectrum, "spectrum", "(C, H, F)", {-1, -1, -1});
  check.contiguous(spectrum, "spectrum");
  check.at_least(spectrum.size(0), "the number of channels of spectrum", 1);
  check.at_least(spectrum.size(1), "the number of features of spectrum", 1);
  const int64_t n = 2 * (spectrum.size(2) - 1);
  check.that(fft_has_plan(n),
             "n = 2 (F - 1) must have no prime factor above 7, got " + std::to_string(n));
  const bool wide = spectrum.dtype() == DType::c128;
  if (D) {
    check.operand(*D, "D", wide ? DType::f64 : DType::f32, spectrum.device(), "(C, H)",
                  {spectrum.size(0), spectrum.size(1)});
  }
  return wide ? detail::s4_conv_table<Backend, double>(spectrum, D)
              : detail::s4_conv_table<Backend, float>(spectrum, D);
}

// The convolution of the rows of u (B, L, H), into out (B, L, C H).
template <class Backend>
void s4_conv_rows(const Tensor& u, const Tensor& table, const Written<'a'>& out, bool gelu) {
  const Check check("s4_conv_rows");
  check.dtype(u, "u", {DType::f32, DType::f64, DType::bf16, DType::f16});
  check.shape(u, "u", "(B, L, H)", {-1, -1, -1});
  check.contiguous(u, "u");
  check.operand(table, "table", u.dtype() == DType::f64 ? DType::f64 : DType::f32, u.device(),
                "(C, groups, R, lanes)", {-1, -1, -1, -1});
  check.at_least(table.size(0), "the number of channels of table", 1);
  const int64_t rows = table.size(2), n = rows - 3;  // 2 F + 1 rows, n = 2 (F - 1)
  check.that(rows % 2 == 1 && fft_has_plan(n) && n >= 2 * u.size(1),
             "table must have R = 2 F + 1 rows with F >= L + 1 = " + std::to_string(u.size(1) + 1) +
                 ", got " + std::to_string(rows));
  check.operand(out, "out", u.dtype(), u.device(), "(B, L, C H)",
                {u.size(0), u.size(1), table.size(0) * u.size(2)});
  if (out.numel() == 0) return;
  const auto bytes = [](const Tensor& x) { return x.numel() * detail::size_of(x.dtype()); };
  check.that(u.data<char>() + bytes(u) <= out.data<char>() ||
                 out.data<char>() + bytes(out) <= u.data<char>(),
             "out must not share memory with u");
  switch (u.dtype()) {
    case DType::f64:
      return detail::s4_conv_rows<Backend, double>(check, u, table, out, gelu);
    case DType::f16:
      return detail::s4_conv_rows<Backend, Float16>(check, u, table, out, gelu);
    case DType::bf16:
      return detail::s4_conv_rows<Backend, BFloat16>(check, u, table, out, gelu);
    default:
      return detail::s4_conv_rows<Backend, float>(check, u, table, out, gelu);
  }
}

}  // namespace ecg::torch_abi

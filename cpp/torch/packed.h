// SPDX-License-Identifier: MIT
//
// What the adapters of the ops with packed weights share.
#pragma once

#include <string>

#include "backend_cpu.h"
#include "check.h"

namespace ecg::torch_abi {

// body(begin, end, panel_begin, panel_end): threads share `count` rows or tiles if there are `many`
// or more, a whole tile of the product for each; else the panels. `cost`: of one in one panel.
template <class Body>
void rows_or_panels(int64_t count, int64_t many, int64_t panels, int64_t cost, const Body& body) {
  if (count >= many) {
    Cpu::rows(count, panels * cost,
              [&](int64_t begin, int64_t end) { body(begin, end, int64_t{0}, panels); });
  } else {
    Cpu::rows(panels, count * cost,
              [&](int64_t begin, int64_t end) { body(int64_t{0}, count, begin, end); });
  }
}

// The packed weights beside rows x are in pairs of bfloat16, not of the dtype of x.
inline bool in_pairs(const Tensor& packed, const Tensor& x) {
  return x.dtype() == DType::f32 && packed.dtype() == DType::i32;
}

// `source`: what made it, of how many entries.
inline void check_packed(const Check& check, const Tensor& packed, const Tensor& x,
                         const std::string& source, int64_t size) {
  check.that(packed.dim() == 1 && packed.size(0) == size,
             "packed must be " + source + ", " + join({size}) + ", got " + join(packed.sizes()));
  check.operand(packed, "packed", in_pairs(packed, x) ? DType::i32 : x.dtype(), x.device(),
                "(size,)", {size});
}

}  // namespace ecg::torch_abi

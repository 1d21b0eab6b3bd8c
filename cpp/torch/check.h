// SPDX-License-Identifier: MIT
//
// Argument checks of the adapters, all with one style of message:
//   ecgcore::cauchy: w must have shape (rows, modes) = (512, 32), got (512, 16)
#pragma once

#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

#include "tensor.h"

namespace ecg::torch_abi {

inline std::string join(const std::vector<int64_t>& sizes) {
  std::string out = "(";
  for (size_t i = 0; i < sizes.size(); ++i) out += (i ? ", " : "") + std::to_string(sizes[i]);
  return out + (sizes.size() == 1 ? ",)" : ")");
}

class Check {
 public:
  explicit Check(const char* op) : op_(op) {}

  [[noreturn]] void fail(const std::string& text) const {
    throw std::runtime_error(std::string("ecgcore::") + op_ + ": " + text);
  }
  void that(bool good, const std::string& text) const {
    if (!good) fail(text);
  }

  void dtype(const Tensor& tensor, const char* name, std::initializer_list<DType> allowed) const {
    const DType got = tensor.dtype();
    std::string words;
    for (const DType dtype : allowed) {
      if (dtype == got) return;
      words += (words.empty() ? "" : " or ") + std::string(name_of(dtype));
    }
    fail(std::string(name) + " must be " + words + ", got " + name_of(got));
  }

  // `symbols` names the axes, e.g. "(rows, modes)"; a size of -1 accepts anything.
  void shape(const Tensor& tensor, const char* name, const char* symbols,
             const std::vector<int64_t>& expected) const {
    const std::vector<int64_t> got = tensor.sizes();
    bool good = got.size() == expected.size();
    bool any_free = false;
    for (size_t i = 0; i < expected.size(); ++i) {
      any_free |= expected[i] < 0;
      good = good && (expected[i] < 0 || got[i] == expected[i]);
    }
    if (good) return;
    std::string text = std::string(name) + " must have shape " + symbols;
    if (!any_free) text += " = " + join(expected);
    fail(text + ", got " + join(got));
  }

  void device(const Tensor& tensor, const char* name, Device expected) const {
    const Device got = tensor.device();
    if (!(got == expected)) {
      fail(std::string(name) + " must be on " + name_of(expected) + ", got " + name_of(got));
    }
  }
  void contiguous(const Tensor& tensor, const char* name) const {
    that(tensor.is_contiguous(), std::string(name) + " must be contiguous");
  }
  void at_least(int64_t value, const char* name, int64_t least) const {
    that(value >= least, std::string(name) + " must be at least " + std::to_string(least) +
                             ", got " + std::to_string(value));
  }

  // Everything at once for a dense operand.
  void operand(const Tensor& tensor, const char* name, DType expected_dtype, Device expected_device,
               const char* symbols, const std::vector<int64_t>& expected_shape) const {
    dtype(tensor, name, {expected_dtype});
    device(tensor, name, expected_device);
    shape(tensor, name, symbols, expected_shape);
    contiguous(tensor, name);
  }

 private:
  const char* op_;
};

}  // namespace ecg::torch_abi

// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace ecg::cpu::ECG_ISA {
namespace {

// Hands out pieces of a scratch array, each on a cache line; over null it only counts.
class Scratch {
 public:
  explicit Scratch(double* memory) : memory_(memory) {}

  template <class S = double>
  S* take(int64_t count) {
    constexpr int64_t kLine = 64;
    const int64_t bytes = count * static_cast<int64_t>(sizeof(S));
    const int64_t doubles = (bytes + kLine - 1) / kLine * (kLine / 8);
    double* piece = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += doubles;
    return reinterpret_cast<S*>(piece);
  }
  int64_t used() const { return used_; }

 private:
  double* memory_;
  int64_t used_ = 0;
};

}  // namespace
}  // namespace ecg::cpu::ECG_ISA

// SPDX-License-Identifier: MIT
#include "ecgcore/kernels/cpu_level.h"

#include <atomic>
#include <stdexcept>

namespace ecg::cpu {
namespace {

constexpr Level kLevels[] = {Level::baseline, Level::avx2, Level::avx512, Level::avx512_bf16};

Level best() {
  Level out = Level::baseline;
  for (const Level level : kLevels) {
    if (available(level)) out = level;
  }
  return out;
}

std::atomic<Level>& current() {
  static std::atomic<Level> level{best()};
  return level;
}

}  // namespace

bool available(Level level) {
  if (level == Level::baseline) return true;
#ifdef ECG_X86_LEVELS
  __builtin_cpu_init();
  if (level == Level::avx2) return __builtin_cpu_supports("x86-64-v3");
  return __builtin_cpu_supports("x86-64-v4") &&
         (level == Level::avx512 || __builtin_cpu_supports("avx512bf16"));
#else
  return false;
#endif
}

const char* name_of(Level level) {
  switch (level) {
    case Level::avx512_bf16:
      return "avx512_bf16";
    case Level::avx512:
      return "avx512";
    case Level::avx2:
      return "avx2";
    case Level::baseline:
      break;
  }
  return "baseline";
}

Level level() { return current().load(std::memory_order_relaxed); }

void set_level(const std::string& name) {
  std::string offered;
  for (const Level level : kLevels) {
    if (!available(level)) continue;
    if (name == name_of(level)) {
      current().store(level, std::memory_order_relaxed);
      return;
    }
    offered += (offered.empty() ? "" : ", ") + std::string(name_of(level));
  }
  throw std::runtime_error("ecgcore: CPU instruction set must be one of " + offered +
                           " on this processor, got '" + name + "'");
}

}  // namespace ecg::cpu

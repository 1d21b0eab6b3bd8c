// SPDX-License-Identifier: MIT
#include "ecgcore/kernels/cpu_level.h"

#include <atomic>
#include <stdexcept>

#if defined(ECG_X86_LEVELS) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace ecg::cpu {
namespace {

// Whether the processor has tiles of bfloat16 and the system lets this process use them: their
// state is large, and Linux wants to be asked (arch_prctl, "Using XSTATE features in user space
// applications" in its documentation).
bool may_use_tiles() {
#if defined(ECG_X86_LEVELS) && defined(__linux__)
  // CPUID.(7, 0).EDX; not all compilers' __builtin_cpu_supports know the names.
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24, kBoth = kAmxBf16 | kAmxTile;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & kBoth) == kBoth &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

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
  if (!__builtin_cpu_supports("x86-64-v4")) return false;
  if (level == Level::avx512) return true;
  if (!__builtin_cpu_supports("avx512bf16")) return false;
  return level == Level::avx512_bf16 || may_use_tiles();
#else
  return false;
#endif
}

const char* name_of(Level level) {
  switch (level) {
    case Level::amx_bf16:
      return "amx_bf16";
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

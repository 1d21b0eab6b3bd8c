// SPDX-License-Identifier: MIT
//
// CPU kernels are compiled once per instruction-set level and chosen at run time. On processors
// other than x86-64 only the baseline exists.
#pragma once

#include <string>

namespace ecg::cpu {

// avx512_bf16, amx_bf16: avx512, and the few kernels that multiply bfloat16 use its products, of
// vectors or of tiles.
enum class Level { baseline, avx2, avx512, avx512_bf16, amx_bf16 };
inline constexpr Level kLevels[] = {Level::baseline, Level::avx2, Level::avx512, Level::avx512_bf16,
                                    Level::amx_bf16};

// The level kernels run at: the best the processor has, unless set_level chose another.
Level level();

// Chooses a level by name ("baseline", "avx2", "avx512", "avx512_bf16", "amx_bf16"). Throws
// std::runtime_error naming the levels this processor and build offer when it is none of them.
void set_level(const std::string& name);

const char* name_of(Level level);
bool available(Level level);

}  // namespace ecg::cpu

// Declares the getter of an op's table of kernels: one definition per level, chosen by level().
//   ECG_KERNEL_TABLE(CauchyKernels, cauchy_kernels)  declares  ecg::cpu::cauchy_kernels<T>().
// Each per-level file defines  ecg::cpu::ECG_ISA::cauchy_kernels<T>(). With ECG_KERNEL_TABLE_BF16
// the file is compiled for avx512_bf16, too, and with ECG_KERNEL_TABLE_AMX for both levels above
// avx512.
#ifdef ECG_X86_LEVELS
#define ECG_KERNEL_TABLE(Table, getter) ECG_KERNEL_TABLE_UP_TO(avx512, avx512, Table, getter)
#define ECG_KERNEL_TABLE_BF16(Table, getter)       \
  ECG_KERNELS_OF_LEVEL(avx512_bf16, Table, getter) \
  ECG_KERNEL_TABLE_UP_TO(avx512_bf16, avx512_bf16, Table, getter)
#define ECG_KERNEL_TABLE_AMX(Table, getter)        \
  ECG_KERNELS_OF_LEVEL(avx512_bf16, Table, getter) \
  ECG_KERNELS_OF_LEVEL(amx_bf16, Table, getter)    \
  ECG_KERNEL_TABLE_UP_TO(avx512_bf16, amx_bf16, Table, getter)

#define ECG_KERNELS_OF_LEVEL(level, Table, getter) \
  namespace ecg::cpu::level {                      \
  template <class T>                               \
  Table<T> getter();                               \
  }
// The kernels for the levels avx512_bf16 and amx_bf16 are those of `bf16` and `amx`.
#define ECG_KERNEL_TABLE_UP_TO(bf16, amx, Table, getter) \
  ECG_KERNELS_OF_LEVEL(baseline, Table, getter)          \
  ECG_KERNELS_OF_LEVEL(avx2, Table, getter)              \
  ECG_KERNELS_OF_LEVEL(avx512, Table, getter)            \
  namespace ecg::cpu {                                   \
  template <class T>                                     \
  inline Table<T> getter() {                             \
    switch (level()) {                                   \
      case Level::amx_bf16:                              \
        return amx::getter<T>();                         \
      case Level::avx512_bf16:                           \
        return bf16::getter<T>();                        \
      case Level::avx512:                                \
        return avx512::getter<T>();                      \
      case Level::avx2:                                  \
        return avx2::getter<T>();                        \
      case Level::baseline:                              \
        break;                                           \
    }                                                    \
    return baseline::getter<T>();                        \
  }                                                      \
  }
#else
#define ECG_KERNEL_TABLE(Table, getter) \
  namespace ecg::cpu {                  \
  namespace baseline {                  \
  template <class T>                    \
  Table<T> getter();                    \
  }                                     \
  template <class T>                    \
  inline Table<T> getter() {            \
    return baseline::getter<T>();       \
  }                                     \
  }
#define ECG_KERNEL_TABLE_BF16(Table, getter) ECG_KERNEL_TABLE(Table, getter)
#define ECG_KERNEL_TABLE_AMX(Table, getter) ECG_KERNEL_TABLE(Table, getter)
#endif

// SPDX-License-Identifier: MIT
//
// Words every floor-1 header uses. The same text is compiled by g++ (scalar and SIMD lanes, once
// per instruction set) and by nvcc (one CUDA thread).
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define ECG_HD __host__ __device__ __forceinline__
#else
#define ECG_HD inline __attribute__((always_inline))
#endif

#define ECG_RESTRICT __restrict__

// Floor-1 functions live in an inline namespace named after the instruction set they are compiled
// for, so that the linker can never replace the baseline copy of a function by the AVX-512 one.
#ifndef ECG_ISA
#define ECG_ISA host
#endif
#define ECG_MATH_BEGIN \
  namespace ecg {      \
  inline namespace ECG_ISA {
#define ECG_MATH_END \
  }                  \
  }

ECG_MATH_BEGIN

// Bytes of one SIMD register of the instruction set this file is compiled for. Where there is a
// tile unit there are registers as wide as its rows.
#if defined(__AVX512F__) || defined(ECG_EMULATE_TILES)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

template <class T>
inline constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

ECG_MATH_END

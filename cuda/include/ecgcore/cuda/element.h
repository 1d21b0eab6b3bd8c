// SPDX-License-Identifier: MIT
//
// Elements of signals: float and double as they are, half precision through float.
#pragma once

#include "ecgcore/math/half.h"
#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace ecg::cuda {

template <class E>
ECG_HD RealOf<E> load_element(const E* array, int64_t i) {
#if defined(__CUDACC__)
  if constexpr (sizeof(E) >= 4) {
    return array[i];
  } else if constexpr (__is_same(E, Float16)) {
    return __half2float(reinterpret_cast<const __half*>(array)[i]);
  } else {
    return __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(array)[i]);
  }
#else
  return to_real<RealOf<E> >(array[i]);
#endif
}

// Rounds to nearest even.
template <class E>
ECG_HD void store_element(E* array, int64_t i, RealOf<E> x) {
#if defined(__CUDACC__)
  if constexpr (sizeof(E) >= 4) {
    array[i] = x;
  } else if constexpr (__is_same(E, Float16)) {
    reinterpret_cast<__half*>(array)[i] = __float2half_rn(x);
  } else {
    reinterpret_cast<__nv_bfloat16*>(array)[i] = __float2bfloat16_rn(x);
  }
#else
  array[i] = from_real<E>(x);
#endif
}

}  // namespace ecg::cuda

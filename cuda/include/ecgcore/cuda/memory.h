// SPDX-License-Identifier: MIT
//
// Complex numbers in global and shared memory, moved with one access each.
#pragma once

#include "ecgcore/math/complex.h"

namespace ecg::cuda {

// A Complex<T> as it lies in memory. Its alignment tells the compiler that one 8- or 16-byte access
// is allowed; torch aligns complex tensors so.
template <class T>
struct alignas(2 * sizeof(T)) Stored {
  T re, im;

  Stored() = default;
  ECG_HD Stored(Complex<T> x) : re(x.re), im(x.im) {}
  ECG_HD operator Complex<T>() const { return {re, im}; }
};

template <class T>
ECG_HD Complex<T> load_complex(const T* array, int64_t i) {
  return reinterpret_cast<const Stored<T>*>(array)[i];
}
template <class T>
ECG_HD void store_complex(T* array, int64_t i, Complex<T> x) {
  reinterpret_cast<Stored<T>*>(array)[i] = x;
}

}  // namespace ecg::cuda

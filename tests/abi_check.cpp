// SPDX-License-Identifier: MIT
//
// Compiled, never linked, by tests/test_abi.py: our declarations of torch's C functions beside
// torch's own. A function declared with another type in the two places is a compile error
// ("conflicting declaration of C function").
//
// With TORCH_TARGET_VERSION set to 2.11 torch's headers hide whatever came later; ECG_ABI_NAMES
// then lists the functions that must be there.
#define USE_CUDA  // shows the stream call
#include <torch/csrc/stable/c/shim.h>

#ifdef ECG_ABI_NAMES
#define ECG_KNOWN(name) static_assert(sizeof(&::name) != 0);
ECG_ABI_NAMES
#undef ECG_KNOWN
#else
// A misspelt weak name would be null for ever without any error: torch must know it.
static_assert(sizeof(&::aoti_torch_get_current_cuda_stream) != 0);
#ifdef TORCH_VERSION_2_13_0
static_assert(sizeof(&::torch_exception_get_what_without_backtrace) != 0);
#endif
#include "abi.h"
#endif

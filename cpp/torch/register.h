// SPDX-License-Identifier: MIT
#pragma once

namespace ecg::torch_abi {

// Registers every operator with torch. Called once, from the body of the Python module, so that
// `import` either has every operator or raises ImportError with torch's own text.
void register_operators();

#ifdef ECGCORE_WITH_CUDA
void register_cuda_kernels();
#endif

}  // namespace ecg::torch_abi

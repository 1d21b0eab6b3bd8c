// SPDX-License-Identifier: MIT
//
// The two types that pass between the adapters (plain C++, no CUDA headers) and the launchers.
#pragma once

namespace ecg::cuda {

using Stream = void*;       // a cudaStream_t, as torch's C ABI hands it out
using Error = const char*;  // nullptr: queued; else CUDA's own text, which needs no freeing

}  // namespace ecg::cuda

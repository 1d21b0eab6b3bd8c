// SPDX-License-Identifier: MIT
//
// The CUDA column of the table in cpp/torch/library.cpp: the same adapters with Backend = Cuda.
#include "torch/library.h"

#include "backend_cuda.h"
#include "cauchy.h"
#include "torch/register.h"

namespace ecg::torch_abi {
namespace {

template <auto Function>
void add(Library& library, const char* name) {
  library.impl<&OnDevice<Function>::run>(name);
}

}  // namespace

void register_cuda_kernels() {
  static Library cuda = Library::kernels("ecgcore", Cuda::kKey);
  add<cauchy<Cuda>>(cuda, "cauchy");
  add<cauchy_backward<Cuda>>(cuda, "cauchy_backward");
}

}  // namespace ecg::torch_abi

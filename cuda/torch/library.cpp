// SPDX-License-Identifier: MIT
//
// The CUDA column of the table in cpp/torch/library.cpp: the same adapters with Backend = Cuda.
#include "torch/library.h"

#include "backend_cuda.h"
#include "cauchy.h"
#include "nplr.h"
#include "s4_conv.h"
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
  add<nplr_spectrum<Cuda>>(cuda, "nplr_spectrum");
  add<nplr_spectrum_backward<Cuda>>(cuda, "nplr_spectrum_backward");
  add<s4_conv<Cuda>>(cuda, "s4_conv");
  add<s4_conv_backward<Cuda>>(cuda, "s4_conv_backward");
}

}  // namespace ecg::torch_abi

// SPDX-License-Identifier: MIT
//
// The CUDA column of the table in cpp/torch/library.cpp: the same adapters with Backend = Cuda.
#include "torch/library.h"

#include "add_layer_norm.h"
#include "backend_cuda.h"
#include "cauchy.h"
#include "conditional_batch_norm.h"
#include "diag.h"
#include "local_attention.h"
#include "nplr.h"
#include "phase_shuffle.h"
#include "philox.h"
#include "residual_update.h"
#include "s4_conv.h"
#include "s4_conv_rows.h"
#include "ssm_step.h"
#include "torch/register.h"
#include "vandermonde.h"

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
  add<nplr_kernel<Cuda>>(cuda, "nplr_kernel");
  add<nplr_kernel_backward<Cuda>>(cuda, "nplr_kernel_backward");
  add<phase_shuffle<Cuda>>(cuda, "phase_shuffle");
  add<phase_shuffle_adjoint<Cuda>>(cuda, "phase_shuffle_adjoint");
  add<philox_normal<Cuda>>(cuda, "philox_normal");
  add<philox_uniform<Cuda>>(cuda, "philox_uniform");
  add<conditional_batch_norm<Cuda>>(cuda, "conditional_batch_norm");
  add<conditional_batch_norm_backward<Cuda>>(cuda, "conditional_batch_norm_backward");
  add<local_attention<Cuda>>(cuda, "local_attention");
  add<local_attention_into<Cuda>>(cuda, "local_attention_into");
  add<local_attention_backward<Cuda>>(cuda, "local_attention_backward");
  add<s4_conv<Cuda>>(cuda, "s4_conv");
  add<s4_conv_backward<Cuda>>(cuda, "s4_conv_backward");
  add<s4_conv_table<Cuda>>(cuda, "s4_conv_table");
  add<s4_conv_rows<Cuda>>(cuda, "s4_conv_rows");
  add<ssm_step<Cuda>>(cuda, "ssm_step");
  add<ssm_step_backward<Cuda>>(cuda, "ssm_step_backward");
  add<vandermonde<Cuda>>(cuda, "vandermonde");
  add<vandermonde_backward<Cuda>>(cuda, "vandermonde_backward");
  add<vandermonde_transpose<Cuda>>(cuda, "vandermonde_transpose");
  add<vandermonde_transpose_backward<Cuda>>(cuda, "vandermonde_transpose_backward");
  add<diag_kernel<Cuda>>(cuda, "diag_kernel");
  add<diag_kernel_backward<Cuda>>(cuda, "diag_kernel_backward");
  add<add_layer_norm<Cuda>>(cuda, "add_layer_norm");
  add<residual_update<Cuda>>(cuda, "residual_update");
}

}  // namespace ecg::torch_abi

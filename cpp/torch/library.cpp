// SPDX-License-Identifier: MIT
//
// The table of contents of the native library: every operator's schema, and its CPU kernel.
#include "library.h"

#include "ops/add_layer_norm.h"
#include "ops/cauchy.h"
#include "ops/conditional_batch_norm.h"
#include "ops/diag.h"
#include "ops/local_attention.h"
#include "ops/nplr.h"
#include "ops/packed_conv.h"
#include "ops/packed_linear.h"
#include "ops/phase_shuffle.h"
#include "ops/philox.h"
#include "ops/residual_update.h"
#include "ops/s4_conv.h"
#include "ops/s4_conv_rows.h"
#include "ops/ssm_step.h"
#include "ops/vandermonde.h"
#include "ops/warp_paths.h"
#include "register.h"

namespace ecg::torch_abi {

void register_operators() {
  // Libraries unregister when they are destroyed, so they live as long as the process.
  static Library ops = Library::definitions("ecgcore");
  ops.def<cauchy<Cpu>>("cauchy", {"v", "z", "w", "conjugate_pairs"});
  ops.def<cauchy_backward<Cpu>>("cauchy_backward",
                                {"grad", "v", "z", "w", "conjugate_pairs", "wanted"});
  ops.def<local_attention<Cpu>>("local_attention", {"q", "k", "v", "block_length", "bias", "mask",
                                                    "scale", "pad_keys_attend", "window"});
  ops.def<local_attention_into<Cpu>>("local_attention_into",
                                     {"q", "k", "v", "block_length", "bias", "mask", "scale",
                                      "pad_keys_attend", "window", "out", "stats"});
  ops.def<local_attention_backward<Cpu>>(
      "local_attention_backward", {"grad", "q", "k", "v", "out", "stats", "block_length", "bias",
                                   "mask", "scale", "pad_keys_attend", "window", "wanted"});
  ops.def<s4_conv<Cpu>>("s4_conv", {"u", "spectrum", "D", "gelu"});
  ops.def<s4_conv_backward<Cpu>>("s4_conv_backward",
                                 {"grad", "u", "spectrum", "D", "gelu", "wanted"});
  ops.def<s4_conv_table<Cpu>>("s4_conv_table", {"spectrum", "D"});
  ops.def<s4_conv_rows<Cpu>>("s4_conv_rows", {"u", "table", "out", "gelu"});
  ops.def<nplr_spectrum<Cpu>>("nplr_spectrum", {"A", "B", "C", "P", "Q", "dt", "omega", "L"});
  ops.def<nplr_spectrum_backward<Cpu>>(
      "nplr_spectrum_backward", {"grad", "A", "B", "C", "P", "Q", "dt", "omega", "L", "wanted"});
  ops.def<ssm_step<Cpu>>("ssm_step", {"state", "u", "A", "B", "C", "P", "Q"});
  ops.def<ssm_step_backward<Cpu>>("ssm_step_backward", {"grad_y", "grad_next", "state", "u", "A",
                                                        "B", "C", "P", "Q", "next", "wanted"});
  ops.def<nplr_kernel<Cpu>>("nplr_kernel", {"A", "B", "C", "P", "Q", "dt", "omega", "L"});
  ops.def<nplr_kernel_backward<Cpu>>(
      "nplr_kernel_backward", {"grad", "A", "B", "C", "P", "Q", "dt", "omega", "L", "wanted"});
  ops.def<vandermonde<Cpu>>("vandermonde", {"v", "log_x", "L", "conjugate_pairs"});
  ops.def<vandermonde_backward<Cpu>>("vandermonde_backward",
                                     {"grad", "v", "log_x", "L", "conjugate_pairs", "wanted"});
  ops.def<vandermonde_transpose<Cpu>>("vandermonde_transpose", {"u", "v", "log_x", "L"});
  ops.def<vandermonde_transpose_backward<Cpu>>("vandermonde_transpose_backward",
                                               {"grad", "u", "v", "log_x", "L", "wanted"});
  ops.def<diag_kernel<Cpu>>("diag_kernel", {"A", "B", "C", "dt", "L", "discretization"});
  ops.def<diag_kernel_backward<Cpu>>(
      "diag_kernel_backward", {"grad", "A", "B", "C", "dt", "L", "discretization", "wanted"});
  ops.def<phase_shuffle<Cpu>>("phase_shuffle", {"x", "shifts"});
  ops.def<phase_shuffle_adjoint<Cpu>>("phase_shuffle_adjoint", {"grad", "shifts"});
  ops.def<conditional_batch_norm<Cpu>>(
      "conditional_batch_norm",
      {"x", "gamma", "beta", "running_mean", "running_var", "eps", "activation", "negative_slope"});
  ops.def<conditional_batch_norm_backward<Cpu>>(
      "conditional_batch_norm_backward", {"grad", "x", "gamma", "beta", "statistics", "training",
                                          "activation", "negative_slope", "wanted"});
  ops.def<packed_conv<Cpu>>("packed_conv", {"x", "packed", "bias", "out"});
  ops.def<packed_linear<Cpu>>("packed_linear",
                              {"x", "packed", "bias", "shift", "out", "relu", "accumulate"});
  ops.def<add_layer_norm<Cpu>>("add_layer_norm", {"y", "residual", "weight", "bias", "shift", "out",
                                                  "eps", "gate", "scale", "accumulate"});
  ops.def<residual_update<Cpu>>("residual_update", {"rs", "step", "x", "skip", "padded", "first"});

  ops.def<warp_paths<Cpu>>("warp_paths", {"x", "y", "largest", "out"});

  ops.def<philox_normal<Cpu>>("philox_normal", {"records", "seed_low", "seed_high", "draw", "out"});
  ops.def<philox_uniform<Cpu>>("philox_uniform",
                               {"records", "seed_low", "seed_high", "draw", "out"});

  static Library cpu = Library::kernels("ecgcore", Cpu::kKey);
  cpu.impl<cauchy<Cpu>>("cauchy");
  cpu.impl<cauchy_backward<Cpu>>("cauchy_backward");
  cpu.impl<local_attention<Cpu>>("local_attention");
  cpu.impl<local_attention_into<Cpu>>("local_attention_into");
  cpu.impl<local_attention_backward<Cpu>>("local_attention_backward");
  cpu.impl<s4_conv<Cpu>>("s4_conv");
  cpu.impl<s4_conv_backward<Cpu>>("s4_conv_backward");
  cpu.impl<s4_conv_table<Cpu>>("s4_conv_table");
  cpu.impl<s4_conv_rows<Cpu>>("s4_conv_rows");
  cpu.impl<nplr_spectrum<Cpu>>("nplr_spectrum");
  cpu.impl<nplr_spectrum_backward<Cpu>>("nplr_spectrum_backward");
  cpu.impl<ssm_step<Cpu>>("ssm_step");
  cpu.impl<ssm_step_backward<Cpu>>("ssm_step_backward");
  cpu.impl<nplr_kernel<Cpu>>("nplr_kernel");
  cpu.impl<nplr_kernel_backward<Cpu>>("nplr_kernel_backward");
  cpu.impl<vandermonde<Cpu>>("vandermonde");
  cpu.impl<vandermonde_backward<Cpu>>("vandermonde_backward");
  cpu.impl<vandermonde_transpose<Cpu>>("vandermonde_transpose");
  cpu.impl<vandermonde_transpose_backward<Cpu>>("vandermonde_transpose_backward");
  cpu.impl<diag_kernel<Cpu>>("diag_kernel");
  cpu.impl<diag_kernel_backward<Cpu>>("diag_kernel_backward");
  cpu.impl<phase_shuffle<Cpu>>("phase_shuffle");
  cpu.impl<phase_shuffle_adjoint<Cpu>>("phase_shuffle_adjoint");
  cpu.impl<conditional_batch_norm<Cpu>>("conditional_batch_norm");
  cpu.impl<conditional_batch_norm_backward<Cpu>>("conditional_batch_norm_backward");
  cpu.impl<philox_normal<Cpu>>("philox_normal");
  cpu.impl<philox_uniform<Cpu>>("philox_uniform");
  cpu.impl<packed_conv<Cpu>>("packed_conv");
  cpu.impl<packed_linear<Cpu>>("packed_linear");
  cpu.impl<add_layer_norm<Cpu>>("add_layer_norm");
  cpu.impl<residual_update<Cpu>>("residual_update");
  cpu.impl<warp_paths<Cpu>>("warp_paths");
}

}  // namespace ecg::torch_abi

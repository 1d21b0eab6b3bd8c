"""Every op's definition in plain torch: same signature, readable, slow, any order of derivative."""

from __future__ import annotations

from ecgcore.ops.add_layer_norm import add_layer_norm_reference as add_layer_norm
from ecgcore.ops.cauchy import cauchy_reference as cauchy
from ecgcore.ops.conditional_batch_norm import (
    conditional_batch_norm_reference as conditional_batch_norm,
)
from ecgcore.ops.diag import diag_kernel_reference as diag_kernel
from ecgcore.ops.local_attention import local_attention_into_reference as local_attention_into
from ecgcore.ops.local_attention import local_attention_reference as local_attention
from ecgcore.ops.nplr import nplr_kernel_reference as nplr_kernel
from ecgcore.ops.nplr import nplr_spectrum_reference as nplr_spectrum
from ecgcore.ops.packed_conv import packed_conv_reference as packed_conv
from ecgcore.ops.packed_linear import packed_linear_reference as packed_linear
from ecgcore.ops.phase_shuffle import phase_shuffle_reference as phase_shuffle
from ecgcore.ops.philox import philox_normal_reference as philox_normal
from ecgcore.ops.philox import philox_uniform_reference as philox_uniform
from ecgcore.ops.residual_update import residual_update_reference as residual_update
from ecgcore.ops.s4_conv import s4_conv_reference as s4_conv
from ecgcore.ops.s4_conv_rows import s4_conv_rows_reference as s4_conv_rows
from ecgcore.ops.s4_conv_rows import s4_conv_table_reference as s4_conv_table
from ecgcore.ops.ssm_step import ssm_step_reference as ssm_step
from ecgcore.ops.upsample_conv1d import upsample_conv1d_reference as upsample_conv1d
from ecgcore.ops.vandermonde import vandermonde_reference as vandermonde
from ecgcore.ops.vandermonde import vandermonde_transpose_reference as vandermonde_transpose
from ecgcore.ops.warp_paths import warp_paths_reference as warp_paths

__all__ = [
    "add_layer_norm",
    "cauchy",
    "conditional_batch_norm",
    "diag_kernel",
    "local_attention",
    "local_attention_into",
    "nplr_kernel",
    "nplr_spectrum",
    "packed_conv",
    "packed_linear",
    "phase_shuffle",
    "philox_normal",
    "philox_uniform",
    "residual_update",
    "s4_conv",
    "s4_conv_rows",
    "s4_conv_table",
    "ssm_step",
    "upsample_conv1d",
    "vandermonde",
    "vandermonde_transpose",
    "warp_paths",
]

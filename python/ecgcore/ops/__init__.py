"""The native ops: functions over ``torch.ops.ecgcore.*``, each with a twin in :mod:`.reference`."""

from __future__ import annotations

from ecgcore.ops import reference
from ecgcore.ops.add_layer_norm import add_layer_norm
from ecgcore.ops.cauchy import cauchy
from ecgcore.ops.conditional_batch_norm import conditional_batch_norm
from ecgcore.ops.diag import diag_kernel
from ecgcore.ops.local_attention import local_attention, local_attention_into
from ecgcore.ops.nplr import nplr_kernel, nplr_spectrum
from ecgcore.ops.packed_conv import pack_conv, packed_conv
from ecgcore.ops.packed_linear import pack_linear, packed_linear
from ecgcore.ops.phase_shuffle import phase_shuffle
from ecgcore.ops.philox import philox_normal, philox_uniform
from ecgcore.ops.residual_update import residual_update
from ecgcore.ops.s4_conv import s4_conv
from ecgcore.ops.s4_conv_rows import s4_conv_rows, s4_conv_table
from ecgcore.ops.ssm_step import ssm_step
from ecgcore.ops.upsample_conv1d import upsample_conv1d
from ecgcore.ops.vandermonde import vandermonde, vandermonde_transpose
from ecgcore.ops.warp_paths import warp_paths

__all__ = [
    "add_layer_norm",
    "cauchy",
    "conditional_batch_norm",
    "diag_kernel",
    "local_attention",
    "local_attention_into",
    "nplr_kernel",
    "nplr_spectrum",
    "pack_conv",
    "pack_linear",
    "packed_conv",
    "packed_linear",
    "phase_shuffle",
    "philox_normal",
    "philox_uniform",
    "reference",
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

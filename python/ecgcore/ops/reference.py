"""Every op's definition in plain torch: same signature, readable, slow, any order of derivative."""

from __future__ import annotations

from ecgcore.ops.cauchy import cauchy_reference as cauchy
from ecgcore.ops.diag import diag_kernel_reference as diag_kernel
from ecgcore.ops.nplr import nplr_kernel_reference as nplr_kernel
from ecgcore.ops.nplr import nplr_spectrum_reference as nplr_spectrum
from ecgcore.ops.s4_conv import s4_conv_reference as s4_conv
from ecgcore.ops.vandermonde import vandermonde_reference as vandermonde
from ecgcore.ops.vandermonde import vandermonde_transpose_reference as vandermonde_transpose

__all__ = [
    "cauchy",
    "diag_kernel",
    "nplr_kernel",
    "nplr_spectrum",
    "s4_conv",
    "vandermonde",
    "vandermonde_transpose",
]

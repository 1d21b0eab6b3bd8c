"""The native ops: functions over ``torch.ops.ecgcore.*``, each with a twin in :mod:`.reference`."""

from __future__ import annotations

from ecgcore.ops import reference
from ecgcore.ops.cauchy import cauchy
from ecgcore.ops.diag import diag_kernel
from ecgcore.ops.nplr import nplr_kernel, nplr_spectrum
from ecgcore.ops.s4_conv import s4_conv
from ecgcore.ops.vandermonde import vandermonde, vandermonde_transpose

__all__ = [
    "cauchy",
    "diag_kernel",
    "nplr_kernel",
    "nplr_spectrum",
    "reference",
    "s4_conv",
    "vandermonde",
    "vandermonde_transpose",
]

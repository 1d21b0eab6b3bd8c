"""Every op's cases, declared once for the tests, the self-check on a GPU and the benchmarks."""

from __future__ import annotations

from ecgcore.testing.cases.add_layer_norm import ADD_LAYER_NORM, AddLayerNormCase
from ecgcore.testing.cases.base import COMPLEX, Case, Draw, stored_omega
from ecgcore.testing.cases.cauchy import CAUCHY, CauchyCase
from ecgcore.testing.cases.conditional_batch_norm import (
    CONDITIONAL_BATCH_NORM,
    ConditionalBatchNormCase,
)
from ecgcore.testing.cases.diag import DIAG_KERNEL, DiagCase
from ecgcore.testing.cases.local_attention import (
    LOCAL_ATTENTION,
    LOCAL_ATTENTION_INTO,
    LocalAttentionCase,
    LocalAttentionIntoCase,
)
from ecgcore.testing.cases.nplr import NPLR_KERNEL, NPLR_SPECTRUM, NplrCase, NplrKernelCase, legs
from ecgcore.testing.cases.packed_conv import PACKED_CONV, PackedConvCase
from ecgcore.testing.cases.packed_linear import PACKED_LINEAR, PackedLinearCase
from ecgcore.testing.cases.phase_shuffle import PHASE_SHUFFLE, PhaseShuffleCase
from ecgcore.testing.cases.philox import PHILOX_NORMAL, PHILOX_UNIFORM, PhiloxCase
from ecgcore.testing.cases.residual_update import RESIDUAL_UPDATE, ResidualUpdateCase
from ecgcore.testing.cases.s4_conv import S4_CONV, S4ConvCase
from ecgcore.testing.cases.s4_conv_rows import S4_CONV_ROWS, S4ConvRowsCase
from ecgcore.testing.cases.ssm_step import SSM_STEP, SsmStepCase
from ecgcore.testing.cases.upsample_conv1d import UPSAMPLE_CONV1D, UpsampleConv1dCase
from ecgcore.testing.cases.vandermonde import (
    VANDERMONDE,
    VANDERMONDE_TRANSPOSE,
    VandermondeCase,
    VandermondeTransposeCase,
)
from ecgcore.testing.cases.warp_paths import WARP_PATHS, WarpPathsCase

__all__ = [
    "ANY_ORDER",
    "CASES",
    "COMPLEX",
    "COMPOSED",
    "CPU_ONLY",
    "HALF_OPS",
    "INFERENCE",
    "AddLayerNormCase",
    "Case",
    "CauchyCase",
    "ConditionalBatchNormCase",
    "DiagCase",
    "Draw",
    "LocalAttentionCase",
    "LocalAttentionIntoCase",
    "NplrCase",
    "NplrKernelCase",
    "PackedConvCase",
    "PackedLinearCase",
    "PhaseShuffleCase",
    "PhiloxCase",
    "ResidualUpdateCase",
    "S4ConvCase",
    "S4ConvRowsCase",
    "SsmStepCase",
    "UpsampleConv1dCase",
    "VandermondeCase",
    "VandermondeTransposeCase",
    "WarpPathsCase",
    "cases",
    "legs",
    "stored_omega",
]

CASES: dict[str, tuple[Case, ...]] = {
    "cauchy": CAUCHY,
    "nplr_spectrum": NPLR_SPECTRUM,
    "nplr_kernel": NPLR_KERNEL,
    "s4_conv": S4_CONV,
    "ssm_step": SSM_STEP,
    "local_attention": LOCAL_ATTENTION,
    "local_attention_into": LOCAL_ATTENTION_INTO,
    "vandermonde": VANDERMONDE,
    "vandermonde_transpose": VANDERMONDE_TRANSPOSE,
    "diag_kernel": DIAG_KERNEL,
    "phase_shuffle": PHASE_SHUFFLE,
    "conditional_batch_norm": CONDITIONAL_BATCH_NORM,
    "upsample_conv1d": UPSAMPLE_CONV1D,
    "packed_conv": PACKED_CONV,
    "packed_linear": PACKED_LINEAR,
    "add_layer_norm": ADD_LAYER_NORM,
    "residual_update": RESIDUAL_UPDATE,
    "s4_conv_rows": S4_CONV_ROWS,
    "philox_normal": PHILOX_NORMAL,
    "philox_uniform": PHILOX_UNIFORM,
    "warp_paths": WARP_PATHS,
}
"""Op name to its cases."""

HALF_OPS = frozenset(op for op, row in CASES.items() if row[0].half)
"""Ops that take bfloat16 and float16 signals."""

INFERENCE = frozenset(op for op, row in CASES.items() if row[0].writes)
"""Ops that write into tensors of the caller's and have no gradient."""

CPU_ONLY = frozenset({"packed_conv", "packed_linear", "warp_paths"})
"""Ops that leave the GPU to torch."""

ANY_ORDER = frozenset({"phase_shuffle", "upsample_conv1d"})
"""Ops that are differentiable any number of times."""

COMPOSED = frozenset({"upsample_conv1d"})
"""Ops made of torch's own: no native kernel, and torch's promises about bits."""


def cases(op: str | None = None, *tags: str, without: str | None = None) -> list[Case]:
    """Cases of ``op`` (``None``: all) that have every one of ``tags`` and not the tag
    ``without``."""
    if op is not None and op not in CASES:
        raise ValueError(f"testing: no op named {op!r}; there are {', '.join(CASES)}")
    chosen = [case for name, row in CASES.items() if op in (None, name) for case in row]
    return [c for c in chosen if c.tags.issuperset(tags) and without not in c.tags]

"""Every op's cases, declared once for the tests, the self-check on a GPU and the benchmarks."""

from __future__ import annotations

from ecgcore.testing.cases.base import COMPLEX, Case, Draw, stored_omega
from ecgcore.testing.cases.cauchy import CAUCHY, CauchyCase
from ecgcore.testing.cases.diag import DIAG_KERNEL, DiagCase
from ecgcore.testing.cases.nplr import NPLR_KERNEL, NPLR_SPECTRUM, NplrCase, NplrKernelCase, legs
from ecgcore.testing.cases.s4_conv import S4_CONV, S4ConvCase
from ecgcore.testing.cases.ssm_step import SSM_STEP, SsmStepCase
from ecgcore.testing.cases.vandermonde import (
    VANDERMONDE,
    VANDERMONDE_TRANSPOSE,
    VandermondeCase,
    VandermondeTransposeCase,
)

__all__ = [
    "CASES",
    "COMPLEX",
    "HALF_OPS",
    "Case",
    "CauchyCase",
    "DiagCase",
    "Draw",
    "NplrCase",
    "NplrKernelCase",
    "S4ConvCase",
    "SsmStepCase",
    "VandermondeCase",
    "VandermondeTransposeCase",
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
    "vandermonde": VANDERMONDE,
    "vandermonde_transpose": VANDERMONDE_TRANSPOSE,
    "diag_kernel": DIAG_KERNEL,
}
"""Op name to its cases."""

HALF_OPS = frozenset({"s4_conv"})
"""Ops that take bfloat16 and float16 signals."""


def cases(op: str | None = None, *tags: str, without: str | None = None) -> list[Case]:
    """Cases of ``op`` (``None``: all) that have every one of ``tags`` and not the tag
    ``without``."""
    if op is not None and op not in CASES:
        raise ValueError(f"testing: no op named {op!r}; there are {', '.join(CASES)}")
    chosen = [case for name, row in CASES.items() if op in (None, name) for case in row]
    return [c for c in chosen if c.tags.issuperset(tags) and without not in c.tags]

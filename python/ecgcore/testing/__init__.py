"""Case lists of every op and the rule that judges them; ``python -m ecgcore.testing`` runs them
all.

The tests, the self-check on a GPU, ``ecgcore doctor`` and the benchmarks share what is here.
"""

from __future__ import annotations

from ecgcore.testing.cases import (
    ANY_ORDER,
    CASES,
    COMPOSED,
    CPU_ONLY,
    HALF_OPS,
    INFERENCE,
    Case,
    cases,
)
from ecgcore.testing.compare import (
    Result,
    check,
    check_all,
    quick_check,
    relative_error,
    table,
)

__all__ = [
    "ANY_ORDER",
    "CASES",
    "COMPOSED",
    "CPU_ONLY",
    "HALF_OPS",
    "INFERENCE",
    "Case",
    "Result",
    "cases",
    "check",
    "check_all",
    "quick_check",
    "relative_error",
    "table",
]

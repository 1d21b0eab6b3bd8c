"""Cases of ``diag_kernel``."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from ecgcore.testing.cases.base import Case, Draw


@dataclass(frozen=True, kw_only=True)
class DiagCase(Case):
    """An S4D-Lin layer: ``rows`` is S, ``tied`` shares A and B over the features (their H is 1),
    ``grow`` turns the sign of every other mode's real part."""

    op: ClassVar[str] = "diag_kernel"
    H: int
    modes: int
    L: int
    discretization: str = "zoh"
    rows: int = 1
    channels: int = 1
    tied: bool = False
    grow: bool = False

    @property
    def name(self) -> str:
        words = [self.discretization, f"H{self.H}_N{self.modes}_L{self.L}"]
        words += [f"S{self.rows}"] * (self.rows != 1) + [f"C{self.channels}"] * (self.channels != 1)
        return "_".join(words + ["tied"] * self.tied + ["grow"] * self.grow)

    @property
    def wrt(self) -> tuple[str, ...]:
        return ("A", "B", "C", "dt")

    def draw(self, draw: Draw) -> dict[str, Any]:
        H, N = 1 if self.tied else self.H, self.modes
        real = -draw.uniform(0.3, 0.7, H, N)
        if self.grow:
            real = torch.where(torch.arange(N) % 2 == 0, -real, real)
        imag = math.pi * torch.arange(N, dtype=torch.float64) * draw.uniform(0.9, 1.1, H, N)
        return {
            "A": torch.complex(real, imag),
            "B": draw.complex_normal(self.rows, H, N),
            "C": draw.complex_normal(self.channels, self.H, N),
            "dt": torch.exp(draw.uniform(math.log(1e-3), math.log(1e-1), self.H)),
            "L": self.L,
            "discretization": self.discretization,
        }


def _diag(H: int, modes: int, L: int, *tags: str, **options: Any) -> DiagCase:
    return DiagCase(H=H, modes=modes, L=L, tags=frozenset(tags), **options)


_EACH = (
    _diag(1, 1, 1, "gradcheck"),
    _diag(2, 2, 5, "gradcheck", "quick", rows=2, channels=2),
    _diag(2, 3, 4, "gradcheck", tied=True),
    _diag(3, 7, 37, rows=2),
    _diag(3, 33, 129, tied=True, channels=2),
    # No gradcheck: the derivative of dss takes the shift of these modes for a constant.
    _diag(3, 8, 70, grow=True),
    _diag(3, 32, 1000, "quick", channels=2),
    _diag(512, 3, 7, tied=True, note="parameter gradients summed over 512 features"),
)
DIAG_KERNEL = (
    *(replace(case, discretization=name) for name in ("zoh", "bilinear", "dss") for case in _EACH),
    _diag(2, 32, 16384, limit=5e-7, note="the error does not grow with the length"),
    _diag(512, 32, 1000, "bench", channels=2, note="an S4D layer, two directions"),
)

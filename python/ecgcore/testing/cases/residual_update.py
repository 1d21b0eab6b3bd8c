"""Cases of ``residual_update``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ecgcore.testing.cases.base import Case, Draw


@dataclass(frozen=True, kw_only=True)
class ResidualUpdateCase(Case):
    """A state ``x (B, L, R)`` and a skip sum ``(B, L, S)``."""

    op: ClassVar[str] = "residual_update"
    writes: ClassVar[tuple[str, ...]] = ("x", "skip", "padded")
    B: int
    L: int
    R: int
    S: int
    padded: bool = True
    step: str | None = None
    """``"each"``: a row for every sample, ``"one"``: one for all."""
    first: bool = False

    @property
    def name(self) -> str:
        words = [f"B{self.B}_L{self.L}_R{self.R}_S{self.S}"]
        words += [w for w in ("padded", "first") if getattr(self, w)]
        words += [] if self.step is None else [f"step-{self.step}"]
        return "_".join(words)

    @property
    def wrt(self) -> tuple[str, ...]:
        return ()

    def draw(self, draw: Draw) -> dict[str, Any]:
        rows = {None: 0, "each": self.B, "one": 1}[self.step]
        padded = torch.zeros(self.B, self.L + 2, self.R, dtype=torch.float64)
        return {
            "rs": draw.normal(self.B, self.L, self.R + self.S),
            "x": draw.normal(self.B, self.L, self.R),
            "skip": draw.normal(self.B, self.L, self.S),
            "padded": padded if self.padded else None,
            "step": draw.normal(rows, self.R) if rows else None,
            "first": self.first,
        }


def _update(B: int, L: int, R: int, S: int, *tags: str, **options: Any) -> ResidualUpdateCase:
    return ResidualUpdateCase(B=B, L=L, R=R, S=S, tags=frozenset(tags), **options)


RESIDUAL_UPDATE = (
    _update(2, 3, 4, 5, "gradcheck"),
    _update(2, 3, 2, 2, "gradcheck", "quick", step="each", first=True),
    _update(1, 1, 1, 1, "gradcheck", padded=False),
    _update(2, 2, 3, 1, "gradcheck", step="one"),
    _update(2, 9, 5, 0, padded=False),
    _update(3, 40, 33, 70, "quick", step="each"),
    _update(2, 300, 256, 256, first=True, step="one", note="split over threads"),
    # The end of a block of SSSD-ECG.
    _update(1, 1000, 256, 256, "bench", step="one"),
    _update(8, 1000, 256, 256, "bench", step="one"),
)

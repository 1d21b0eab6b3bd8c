"""Cases of ``philox_normal`` and ``philox_uniform``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ecgcore.testing.cases.base import Case, Draw


@dataclass(frozen=True, kw_only=True)
class PhiloxCase(Case):
    """``B`` records of ``size`` numbers."""

    half: ClassVar[tuple[str, ...]] = ("out",)
    writes: ClassVar[tuple[str, ...]] = ("out",)
    B: int
    size: int
    first: int = 0
    seed: int = 0
    draw_number: int = 0

    @property
    def name(self) -> str:
        return f"B{self.B}_{self.size}_from{self.first}_seed{self.seed}_draw{self.draw_number}"

    @property
    def wrt(self) -> tuple[str, ...]:
        return ()

    def draw(self, draw: Draw) -> dict[str, Any]:
        return {
            "out": torch.zeros(self.B, self.size, dtype=torch.float64),
            "seed": self.seed,
            "records": torch.arange(self.first, self.first + self.B),
            "draw": self.draw_number,
        }


class PhiloxNormalCase(PhiloxCase):
    op: ClassVar[str] = "philox_normal"


class PhiloxUniformCase(PhiloxCase):
    op: ClassVar[str] = "philox_uniform"


def _cases(kind: type[PhiloxCase]) -> tuple[PhiloxCase, ...]:
    return (
        kind(B=2, size=5, tags=frozenset({"gradcheck", "quick"})),
        kind(B=1, size=1, first=7, tags=frozenset({"gradcheck"})),
        kind(B=3, size=1027, first=2**33, seed=2**64 - 1, draw_number=2**32 - 1),
        kind(B=512, size=96, seed=2**40 + 3, draw_number=5, note="split over threads"),
    )


PHILOX_NORMAL = _cases(PhiloxNormalCase)
PHILOX_UNIFORM = _cases(PhiloxUniformCase)

"""Cases of ``phase_shuffle``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ecgcore.testing.cases.base import Case, Draw


@dataclass(frozen=True, kw_only=True)
class PhaseShuffleCase(Case):
    """``x (B, C, L)`` and shifts up to ``n`` in magnitude (``None``: ``L - 1``), both ends of the
    range among them where the batch has room."""

    op: ClassVar[str] = "phase_shuffle"
    half: ClassVar[tuple[str, ...]] = ("x",)
    B: int
    C: int
    L: int
    n: int | None = None

    @property
    def name(self) -> str:
        most = "" if self.n is None else f"_n{self.n}"
        return f"B{self.B}_C{self.C}_L{self.L}{most}"

    @property
    def wrt(self) -> tuple[str, ...]:
        return ("x",)

    def draw(self, draw: Draw) -> dict[str, Any]:
        n = self.L - 1 if self.n is None else self.n
        shifts = torch.from_numpy(draw.rng.integers(-n, n + 1, self.B))
        shifts[:1], shifts[1:2] = n, -n
        return {"x": draw.normal(self.B, self.C, self.L), "shifts": shifts}


def _shuffle(B: int, C: int, L: int, *tags: str, **options: Any) -> PhaseShuffleCase:
    return PhaseShuffleCase(B=B, C=C, L=L, tags=frozenset(tags), **options)


PHASE_SHUFFLE = (
    _shuffle(2, 2, 1, "gradcheck"),
    _shuffle(4, 1, 2, "gradcheck"),
    _shuffle(5, 2, 7, "gradcheck", "quick"),
    _shuffle(6, 3, 40),
    _shuffle(3, 2, 499, "quick", n=2),
    _shuffle(512, 5, 61, n=2, note="split over threads"),
    # The critic's five shuffles: 50 channels more than doubled at each halving of the length.
    _shuffle(64, 50, 499, "bench", n=2, note="WaveGAN*"),
    _shuffle(64, 100, 249, "bench", n=2, note="WaveGAN*"),
    _shuffle(64, 250, 124, "bench", n=2, note="WaveGAN*"),
    _shuffle(64, 500, 61, "bench", n=2, note="WaveGAN*"),
    _shuffle(64, 1000, 15, "bench", n=2, note="WaveGAN*"),
)

"""Cases of ``warp_paths``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ecgcore.testing.cases.base import Case, Draw


@dataclass(frozen=True, kw_only=True)
class WarpPathsCase(Case):
    """``x (n, C, L)`` and ``y (m, C, M)`` to ``out (n, m)``."""

    op: ClassVar[str] = "warp_paths"
    writes: ClassVar[tuple[str, ...]] = ("out",)
    n: int
    m: int
    C: int
    L: int
    M: int
    largest: bool = False

    @property
    def name(self) -> str:
        words = [f"n{self.n}_m{self.m}_C{self.C}_L{self.L}_M{self.M}"]
        return "_".join(words + ["largest"] * self.largest)

    @property
    def wrt(self) -> tuple[str, ...]:
        return ()

    def draw(self, draw: Draw) -> dict[str, Any]:
        return {
            "x": draw.normal(self.n, self.C, self.L),
            "y": draw.normal(self.m, self.C, self.M),
            "out": draw.normal(self.n, self.m),
            "largest": self.largest,
        }


def _warp(n: int, m: int, C: int, L: int, M: int, *tags: str, **options: Any) -> WarpPathsCase:
    return WarpPathsCase(n=n, m=m, C=C, L=L, M=M, tags=frozenset(tags), **options)


WARP_PATHS = (
    _warp(1, 1, 1, 1, 1, "gradcheck"),
    _warp(2, 3, 2, 5, 4, "gradcheck", "quick", largest=True),
    _warp(1, 2, 1, 3, 6, "gradcheck"),
    # Every number of rows behind the last four, and records that fill no vector.
    *(_warp(2, 5, 3, L, 9) for L in range(2, 9)),
    *(_warp(2, 17, 3, L, 11, largest=True) for L in range(2, 9)),
    _warp(3, 2, 0, 4, 5, note="no leads: all distances are 0"),
    _warp(3, 33, 12, 50, 61, "quick", note="several groups, split over threads"),
    _warp(1, 16, 12, 1000, 1000, "bench", note="10 s"),
    _warp(1, 16, 12, 1000, 1000, "bench", note="10 s", largest=True),
)

"""Cases of ``add_layer_norm``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ecgcore.testing.cases.base import Case, Draw


@dataclass(frozen=True, kw_only=True)
class AddLayerNormCase(Case):
    """``y (B, L, F)`` whose rows have means and deviations of their own; ``offset`` moves all means
    away from zero."""

    op: ClassVar[str] = "add_layer_norm"
    writes: ClassVar[tuple[str, ...]] = ("out",)
    B: int
    L: int
    F: int
    residual: bool = True
    affine: bool = True
    shift: str | None = None
    """``"each"``: a row for every sample, ``"one"``: one for all."""
    eps: float | None = 1e-5
    gate: bool = False
    scale: float = 1.0
    accumulate: bool = False
    offset: float = 0.0

    @property
    def name(self) -> str:
        words = [f"B{self.B}_L{self.L}_F{self.F}"]
        words += [w for w in ("residual", "affine", "gate", "accumulate") if getattr(self, w)]
        words += [f"eps{self.eps}"] * (self.eps != 1e-5)
        words += [f"{w}{getattr(self, w):g}" for w in ("scale", "offset")]
        words += [] if self.shift is None else [f"shift-{self.shift}"]
        return "_".join(words)

    @property
    def wrt(self) -> tuple[str, ...]:
        return ()

    def draw(self, draw: Draw) -> dict[str, Any]:
        rows = self.B, self.L, self.F
        deviation = draw.uniform(0.2, 3.0, self.B, self.L, 1)
        mean = draw.normal(self.B, self.L, 1) + self.offset
        affine = self.affine and self.eps is not None
        samples = {None: 0, "each": self.B, "one": 1}[self.shift]
        return {
            "y": draw.normal(*rows) * deviation + mean,
            "out": draw.normal(*rows)[..., : self.F // 2 if self.gate else self.F],
            "residual": draw.normal(*rows) if self.residual else None,
            "weight": 1 + 0.5 * draw.normal(self.F) if affine else None,
            "bias": 0.5 * draw.normal(self.F) if affine else None,
            "shift": draw.normal(samples, self.F) if samples else None,
            "eps": self.eps,
            "gate": self.gate,
            "scale": self.scale,
            "accumulate": self.accumulate,
        }


def _norm(B: int, L: int, F: int, *tags: str, **options: Any) -> AddLayerNormCase:
    return AddLayerNormCase(B=B, L=L, F=F, tags=frozenset(tags), **options)


ADD_LAYER_NORM = (
    _norm(2, 3, 4, "gradcheck"),
    _norm(2, 3, 6, "gradcheck", "quick", gate=True, shift="each", accumulate=True, scale=0.5),
    _norm(2, 2, 5, "gradcheck", residual=False, affine=False),
    _norm(1, 3, 4, "gradcheck", eps=None, gate=True, shift="one"),
    _norm(1, 1, 1),
    _norm(3, 7, 33, eps=None, residual=False, shift="each", scale=2.0),
    _norm(3, 5, 34, gate=True, residual=False),
    _norm(2, 9, 66, eps=None, gate=True),
    _norm(3, 40, 100, "quick", shift="each", accumulate=True),
    _norm(2, 50, 512, gate=True, shift="one"),
    _norm(2, 3, 2600, affine=False, note="long rows"),
    _norm(2, 20, 256, offset=1000.0, note="the mean is 1000 deviations away"),
    _norm(2, 300, 512, shift="each", note="split over threads"),
    # The two normalisations of a block of SSSD-ECG.
    _norm(1, 1000, 512, "bench", shift="one"),
    _norm(8, 1000, 512, "bench", shift="each"),
    _norm(1, 1000, 512, "bench", gate=True),
    _norm(8, 1000, 512, "bench", gate=True),
)

"""Cases of ``ssm_step``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ecgcore.testing.cases.base import Case, Draw


@dataclass(frozen=True, kw_only=True)
class SsmStepCase(Case):
    """A step of a damped, slowly turning state space from a state of unit size."""

    op: ClassVar[str] = "ssm_step"
    B: int
    H: int
    modes: int
    channels: int = 1
    rank: int = 1

    @property
    def name(self) -> str:
        words = [f"B{self.B}_H{self.H}_N{self.modes}"] + [f"R{self.rank}"] * (self.rank != 1)
        return "_".join(words + [f"C{self.channels}"] * (self.channels != 1))

    @property
    def wrt(self) -> tuple[str, ...]:
        return ("state", "u", "A", "B", "C", *(("P", "Q") if self.rank else ()))

    def draw(self, draw: Draw) -> dict[str, Any]:
        B, H, N, R = self.B, self.H, self.modes, self.rank
        inputs = {
            "state": draw.complex_normal(B, H, N),
            "u": draw.normal(B, H),
            "A": torch.complex(-draw.uniform(0.001, 0.1, H, N), draw.uniform(0.0, 1.0, H, N)),
            "B": draw.complex_normal(H, N),
            "C": draw.complex_normal(self.channels, H, N),
        }
        if R:
            inputs["P"] = draw.complex_normal(R, H, N) / math.sqrt(N)
            inputs["Q"] = draw.complex_normal(R, H, N) / math.sqrt(N)
        return inputs


def _step(B: int, H: int, modes: int, *tags: str, **options: Any) -> SsmStepCase:
    return SsmStepCase(B=B, H=H, modes=modes, tags=frozenset(tags), **options)


SSM_STEP = (
    _step(1, 1, 1, "gradcheck"),
    _step(2, 2, 3, "gradcheck", "quick", channels=2),
    _step(2, 1, 2, "gradcheck", rank=0, note="S4D"),
    _step(1, 2, 2, "gradcheck", rank=3),
    _step(3, 5, 7, rank=2, channels=2, note="odd everything"),
    _step(2, 3, 33, "quick", rank=5, channels=3, note="more ranks than are held at a time"),
    _step(3, 17, 32),
    _step(2, 9, 64, rank=0, note="an eigenbasis"),
    _step(1, 3, 129),
    _step(5, 512, 16, channels=2, note="split over threads"),
    _step(1, 512, 32, "bench", note="a streaming layer"),
    _step(8, 512, 32, "bench", note="eight streams"),
)

"""Cases of ``upsample_conv1d``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ecgcore.testing.cases.base import Case, Draw


@dataclass(frozen=True, kw_only=True)
class UpsampleConv1dCase(Case):
    """``x (B, F_in, L)``, ``weight (F_out, F_in, k)``."""

    op: ClassVar[str] = "upsample_conv1d"
    B: int
    F_in: int
    F_out: int
    L: int
    scale: int
    k: int = 25
    bias: bool = True

    @property
    def name(self) -> str:
        words = f"B{self.B}_F{self.F_in}to{self.F_out}_L{self.L}x{self.scale}_k{self.k}"
        return words + "_nobias" * (not self.bias)

    @property
    def wrt(self) -> tuple[str, ...]:
        return ("x", "weight", *(("bias",) if self.bias else ()))

    def draw(self, draw: Draw) -> dict[str, Any]:
        spread = (self.F_in * self.k) ** -0.5
        return {
            "x": draw.normal(self.B, self.F_in, self.L),
            "weight": draw.normal(self.F_out, self.F_in, self.k) * spread,
            "bias": draw.normal(self.F_out) if self.bias else None,
            "scale": self.scale,
        }


def _upsample(
    B: int, F_in: int, F_out: int, L: int, scale: int, *tags: str, **options: Any
) -> UpsampleConv1dCase:
    return UpsampleConv1dCase(
        B=B, F_in=F_in, F_out=F_out, L=L, scale=scale, tags=frozenset(tags), **options
    )


UPSAMPLE_CONV1D = (
    _upsample(2, 1, 1, 1, 1, "gradcheck", k=1),
    _upsample(1, 2, 2, 1, 3, "gradcheck", k=5),
    _upsample(2, 2, 3, 4, 5, "gradcheck", "quick", k=7),
    _upsample(1, 2, 1, 3, 2, "gradcheck", k=3, bias=False),
    _upsample(3, 4, 5, 2, 5),
    _upsample(2, 3, 8, 50, 2, "quick"),
    _upsample(2, 10, 8, 200, 5),
    _upsample(2, 25, 10, 60, 1),
    # The generators' layers; those of scale 1 are plain convolutions.
    _upsample(64, 250, 150, 8, 5, "bench", note="WaveGAN*"),
    _upsample(64, 150, 50, 40, 1, "bench", note="WaveGAN*"),
    _upsample(64, 50, 25, 40, 5, "bench", note="WaveGAN*"),
    _upsample(64, 25, 10, 200, 1, "bench", note="WaveGAN*"),
    _upsample(64, 10, 8, 200, 5, "bench", note="WaveGAN*"),
    _upsample(64, 500, 150, 2, 5, "bench", note="Pulse2Pulse"),
    _upsample(64, 300, 50, 10, 5, "bench", note="Pulse2Pulse"),
    _upsample(64, 100, 25, 50, 2, "bench", note="Pulse2Pulse"),
    _upsample(64, 50, 10, 100, 5, "bench", note="Pulse2Pulse"),
    _upsample(64, 10, 8, 500, 2, "bench", note="Pulse2Pulse"),
)

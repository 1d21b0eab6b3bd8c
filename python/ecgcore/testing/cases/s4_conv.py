"""Cases of ``s4_conv``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ecgcore.testing.cases.base import Case, Draw


@dataclass(frozen=True, kw_only=True)
class S4ConvCase(Case):
    """``u (B, H, L)`` against the spectrum of a two-sided kernel of ``n`` samples (``None``: ``2
    L``)."""

    op: ClassVar[str] = "s4_conv"
    half: ClassVar[tuple[str, ...]] = ("u",)
    B: int
    H: int
    L: int
    channels: int = 1
    n: int | None = None
    skip: bool = True
    activation: str | None = None
    causal: bool = False

    @property
    def name(self) -> str:
        words = [f"B{self.B}_H{self.H}_L{self.L}"] + [f"C{self.channels}"] * (self.channels != 1)
        words += [f"n{self.n}"] * (self.n is not None) + ["noD"] * (not self.skip)
        words += [self.activation or "", "causal" * self.causal]
        return "_".join(filter(None, words))

    @property
    def wrt(self) -> tuple[str, ...]:
        return ("u", "spectrum", *(("D",) if self.skip else ()))

    def draw(self, draw: Draw) -> dict[str, Any]:
        n = 2 * self.L if self.n is None else self.n
        u = draw.normal(self.B, self.H, self.L)
        kernel = torch.zeros(self.channels, self.H, n, dtype=torch.float64)
        decay = torch.exp(-torch.arange(self.L) / max(1.0, self.L / 5)) / math.sqrt(self.L)
        kernel[..., : self.L] = draw.normal(self.channels, self.H, self.L) * decay
        if not self.causal:
            kernel[..., n - self.L :] += (draw.normal(self.channels, self.H, self.L) * decay).flip(
                -1
            )
        return {
            "u": u,
            "spectrum": torch.fft.rfft(kernel),
            "D": draw.normal(self.channels, self.H) if self.skip else None,
            "activation": self.activation,
        }


def _conv(B: int, H: int, L: int, *tags: str, **options: Any) -> S4ConvCase:
    return S4ConvCase(B=B, H=H, L=L, tags=frozenset(tags), **options)


S4_CONV = (
    _conv(1, 1, 1, "gradcheck"),
    _conv(2, 1, 2, "gradcheck", activation="gelu"),
    _conv(2, 2, 3, "gradcheck", "quick", channels=2, activation="gelu"),
    _conv(1, 2, 5, "gradcheck", skip=False),
    _conv(2, 2, 4, "gradcheck", n=10, activation="gelu", skip=False),
    _conv(3, 3, 37, activation="gelu"),
    _conv(1, 17, 64, channels=2, causal=True),
    _conv(2, 3, 64, "quick", n=256, activation="gelu"),
    _conv(2, 9, 129, skip=False, activation="gelu"),
    _conv(3, 3, 129, n=262, channels=2),
    _conv(2, 17, 1000, "quick", activation="gelu", note="2000 = 2^4 5^3"),
    _conv(2, 17, 1000, n=2048, activation="gelu"),
    _conv(1, 9, 1000, channels=2),
    _conv(1, 3, 1009, activation="gelu", note="prime: 2018 = 2 x 1009"),
    _conv(1, 3, 2500, activation="gelu", note="500 Hz, 5 s"),
    _conv(2, 512, 3, activation="gelu", note="split over threads"),
    _conv(1, 512, 1000, "bench", activation="gelu", note="an SSSD-ECG layer"),
    _conv(8, 512, 1000, "bench", activation="gelu", note="an SSSD-ECG layer"),
)

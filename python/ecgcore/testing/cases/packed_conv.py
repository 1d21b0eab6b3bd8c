"""Cases of ``packed_conv``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ecgcore.ops import pack_conv
from ecgcore.testing.cases.base import Case, Draw


@dataclass(frozen=True, kw_only=True)
class PackedConvCase(Case):
    """``x (B, L + 2, C)`` to ``out (B, L, N)``."""

    op: ClassVar[str] = "packed_conv"
    writes: ClassVar[tuple[str, ...]] = ("out",)
    B: int
    L: int
    C: int
    N: int
    bias: bool = True
    rounded: bool = False
    """Products in bfloat16; all else is then float32."""

    @property
    def name(self) -> str:
        words = [f"B{self.B}_L{self.L}_C{self.C}_N{self.N}"]
        return "_".join(words + [w for w in ("bias", "rounded") if getattr(self, w)])

    @property
    def wrt(self) -> tuple[str, ...]:
        return ()

    def draw(self, draw: Draw) -> dict[str, Any]:
        return {
            "x": draw.normal(self.B, self.L + 2, self.C),
            "weight": draw.normal(self.N, self.C, 3) / math.sqrt(max(3 * self.C, 1)),
            "out": draw.normal(self.B, self.L, self.N),
            "bias": draw.normal(self.N) if self.bias else None,
        }

    def inputs(
        self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> dict[str, Any]:
        given = super().inputs(torch.float32 if self.rounded else dtype, device)
        weight = given.pop("weight")
        return {"packed": pack_conv(weight, torch.bfloat16 if self.rounded else None), **given}


def _conv(B: int, L: int, C: int, N: int, *tags: str, **options: Any) -> PackedConvCase:
    return PackedConvCase(B=B, L=L, C=C, N=N, tags=frozenset(tags), **options)


PACKED_CONV = (
    _conv(1, 1, 1, 1, "gradcheck"),
    _conv(2, 5, 3, 2, "gradcheck", "quick", bias=False),
    # Every number of rows in the last tile, and of tiles in the last tile of the product; channels
    # and features that fill no vector.
    *(_conv(1, L, 9, 8) for L in range(2, 10)),
    *(_conv(2, 4 * tiles - 1, 21, 49) for tiles in range(3, 14)),
    _conv(2, 33, 0, 7, note="no channels: bias alone"),
    _conv(2, 150, 257, 33, "quick", note="a sum of two parts"),
    _conv(3, 301, 64, 40, note="several chunks"),
    _conv(16, 1, 64, 200, note="few tiles: split over panels"),
    _conv(2, 1000, 24, 512, note="split over threads"),
    # In bfloat16, of an even and an odd number of channels.
    *(_conv(1, L, 9, 8, rounded=True) for L in range(1, 10)),
    *(_conv(2, 2 * tiles - 1, 22, 49, bias=False, rounded=True) for tiles in range(3, 14)),
    _conv(2, 33, 0, 7, rounded=True, note="no channels: bias alone"),
    _conv(2, 60, 513, 33, "quick", rounded=True, note="a sum of two parts"),
    _conv(3, 301, 64, 40, rounded=True, note="several chunks"),
    # That of SSSD-ECG and DSAT-ECG.
    _conv(1, 1000, 256, 512, "bench", note="residual block"),
    _conv(8, 1000, 256, 512, "bench", note="residual block"),
    _conv(1, 1000, 256, 512, "bench", rounded=True, note="residual block"),
    _conv(8, 1000, 256, 512, "bench", rounded=True, note="residual block"),
)

"""Cases of ``packed_linear``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ecgcore.ops import pack_linear
from ecgcore.testing.cases.base import Case, Draw


@dataclass(frozen=True, kw_only=True)
class PackedLinearCase(Case):
    """``x (B, L, K)`` to ``out (B, L, N)``."""

    op: ClassVar[str] = "packed_linear"
    writes: ClassVar[tuple[str, ...]] = ("out",)
    B: int
    L: int
    K: int
    N: int
    bias: bool = True
    shift: str | None = None
    """``"each"``: a row for every sample, ``"one"``: one for all."""
    relu: bool = False
    accumulate: bool = False
    rounded: bool = False
    """Weights, and with them ``x``, in bfloat16; all else is then float32."""

    @property
    def name(self) -> str:
        words = [f"B{self.B}_L{self.L}_K{self.K}_N{self.N}"]
        words += [w for w in ("bias", "relu", "accumulate", "rounded") if getattr(self, w)]
        words += [] if self.shift is None else [f"shift-{self.shift}"]
        return "_".join(words)

    @property
    def wrt(self) -> tuple[str, ...]:
        return ()

    def draw(self, draw: Draw) -> dict[str, Any]:
        rows = {None: 0, "each": self.B, "one": 1}[self.shift]
        return {
            "x": draw.normal(self.B, self.L, self.K),
            "weight": draw.normal(self.N, self.K) / math.sqrt(max(self.K, 1)),
            "out": draw.normal(self.B, self.L, self.N),
            "bias": draw.normal(self.N) if self.bias else None,
            "shift": draw.normal(rows, self.N) if rows else None,
            "relu": self.relu,
            "accumulate": self.accumulate,
        }

    def inputs(
        self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> dict[str, Any]:
        given = super().inputs(torch.float32 if self.rounded else dtype, device)
        weight = given.pop("weight")
        return {"packed": pack_linear(weight.bfloat16() if self.rounded else weight), **given}


def _linear(B: int, L: int, K: int, N: int, *tags: str, **options: Any) -> PackedLinearCase:
    return PackedLinearCase(B=B, L=L, K=K, N=N, tags=frozenset(tags), **options)


PACKED_LINEAR = (
    _linear(1, 1, 1, 1, "gradcheck"),
    _linear(2, 5, 3, 2, "gradcheck", "quick", shift="each", relu=True, accumulate=True),
    _linear(2, 3, 12, 5, "gradcheck"),
    _linear(2, 4, 2, 40, "gradcheck", bias=False, shift="one"),
    # Every height of a tile, on one vector and on two, and columns that are not full.
    *(_linear(1, L, 9, 8, relu=True) for L in range(2, 13)),
    *(_linear(2, L, 5, 49, shift="each", accumulate=True) for L in range(2, 13)),
    _linear(3, 50, 8, 256, note="input layer"),
    _linear(2, 70, 256, 12, bias=False, note="output layer"),
    _linear(2, 33, 0, 7, shift="each", note="no features: bias and shift alone"),
    _linear(2, 150, 257, 33, "quick", relu=True, note="a sum of two parts"),
    _linear(2, 101, 768, 64, shift="each", note="a sum of three parts, several chunks"),
    _linear(16, 1, 512, 200, note="few rows: split over panels"),
    _linear(2, 1000, 24, 512, accumulate=True, note="split over threads"),
    # In bfloat16: sums of one part and of two, of an even and an odd number of products.
    _linear(2, 3, 12, 5, "gradcheck", rounded=True),
    *(_linear(1, L, 9, 8, relu=True, rounded=True) for L in range(1, 13)),
    *(_linear(2, L, 10, 49, shift="each", accumulate=True, rounded=True) for L in range(1, 13)),
    _linear(2, 33, 0, 7, rounded=True, note="no features: bias alone"),
    _linear(2, 150, 513, 33, "quick", relu=True, rounded=True, note="a sum of two parts"),
    _linear(2, 101, 768, 64, shift="each", rounded=True, note="several chunks"),
    _linear(16, 1, 512, 200, rounded=True, note="few rows: split over panels"),
    # The matrix products of SSSD-ECG.
    _linear(1, 1000, 512, 512, "bench", note="S4 output"),
    _linear(8, 1000, 512, 512, "bench", note="S4 output"),
    _linear(1, 1000, 256, 512, "bench", note="residual and skip"),
    _linear(8, 1000, 256, 512, "bench", note="residual and skip"),
    _linear(8, 1000, 256, 8, "bench", note="output"),
    _linear(1, 1000, 512, 512, "bench", rounded=True, note="S4 output"),
    _linear(8, 1000, 512, 512, "bench", rounded=True, note="S4 output"),
)

"""Cases of ``s4_conv_rows``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor

from ecgcore.testing.cases.base import Draw
from ecgcore.testing.cases.s4_conv import S4ConvCase


@dataclass(frozen=True, kw_only=True)
class S4ConvRowsCase(S4ConvCase):
    """Those of ``s4_conv`` with ``u (B, L, H)``; the table is made of ``spectrum`` and ``D``."""

    op: ClassVar[str] = "s4_conv_rows"
    half: ClassVar[tuple[str, ...]] = ("u", "out")
    writes: ClassVar[tuple[str, ...]] = ("out",)

    @classmethod
    def function(cls, library: ModuleType) -> Callable[..., Any]:
        def run(u: Tensor, spectrum: Tensor, D: Tensor | None, out: Tensor, gelu: bool) -> Any:
            return library.s4_conv_rows(u, library.s4_conv_table(spectrum, D), out, gelu=gelu)

        return run

    @property
    def wrt(self) -> tuple[str, ...]:
        return ()

    def draw(self, draw: Draw) -> dict[str, Any]:
        given = super().draw(draw)
        return {
            "u": given["u"].mT,
            "spectrum": given["spectrum"],
            "D": given["D"],
            "out": torch.zeros(self.B, self.L, self.channels * self.H, dtype=torch.float64),
            "gelu": given["activation"] == "gelu",
        }


def _conv(B: int, H: int, L: int, *tags: str, **options: Any) -> S4ConvRowsCase:
    return S4ConvRowsCase(B=B, H=H, L=L, tags=frozenset(tags), **options)


S4_CONV_ROWS = (
    _conv(1, 1, 1, "gradcheck"),
    _conv(2, 2, 3, "gradcheck", "quick", channels=2, activation="gelu"),
    _conv(1, 2, 5, "gradcheck", skip=False),
    _conv(2, 2, 4, "gradcheck", n=10, activation="gelu", skip=False),
    _conv(3, 3, 37, activation="gelu", note="prime: 74 = 2 x 37"),
    _conv(1, 17, 64, channels=2, causal=True),
    _conv(2, 9, 129, "quick", n=262, skip=False),
    _conv(2, 17, 1000, "quick", activation="gelu", note="2000 = 2^4 5^3"),
    _conv(2, 65, 1000, n=2048, activation="gelu"),
    _conv(2, 512, 3, activation="gelu", note="split over threads"),
    _conv(1, 512, 1000, "bench", activation="gelu", note="an SSSD-ECG layer"),
    _conv(8, 512, 1000, "bench", activation="gelu", note="an SSSD-ECG layer"),
)

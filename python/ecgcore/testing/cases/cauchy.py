"""Cases of ``cauchy``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ecgcore.testing.cases.base import Case, Draw, stored_omega


@dataclass(frozen=True, kw_only=True)
class CauchyCase(Case):
    """``v_rows + (modes,)``, ``w_rows + (modes,)``, ``nodes`` points ``z`` of the named kind."""

    op: ClassVar[str] = "cauchy"
    v_rows: tuple[int, ...]
    w_rows: tuple[int, ...]
    modes: int
    nodes: int
    conjugate_pairs: bool = True
    z: str = "axis"
    """``axis``: on the imaginary axis; ``plane``: anywhere right of the poles; ``fft``: the nodes
    of an S4 checkpoint with the almost-pole at Nyquist; ``near_pole``: within 1e-3 of a pole."""

    @property
    def name(self) -> str:
        rows = "x".join(map(str, self.v_rows)) or "0d"
        other = (
            "" if self.w_rows == self.v_rows else "_w" + ("x".join(map(str, self.w_rows)) or "0d")
        )
        kind = "pairs" if self.conjugate_pairs else "plain"
        return f"{kind}_{rows}{other}_N{self.modes}_L{self.nodes}_{self.z}"

    @property
    def wrt(self) -> tuple[str, ...]:
        return ("v", "z", "w")

    def draw(self, draw: Draw) -> dict[str, Any]:
        L = self.nodes
        shape = (*self.w_rows, self.modes)
        w = torch.complex(-draw.uniform(0.05, 0.5, *shape), draw.uniform(0.0, 12.0, *shape))
        if self.z == "axis":
            z = torch.complex(torch.zeros(L, dtype=torch.float64), draw.uniform(-15.0, 15.0, L))
        elif self.z == "plane":
            z = torch.complex(draw.uniform(0.0, 2.0, L), draw.uniform(-15.0, 15.0, L))
        elif self.z == "near_pole":
            angle = draw.uniform(-math.pi, math.pi, L)
            poles = w.reshape(-1)
            z = poles[torch.arange(L) % poles.numel()] + torch.polar(
                torch.full_like(angle, 1e-3), angle
            )
        elif self.z == "fft":
            omega = stored_omega(2 * (L - 1))
            z = 2 * (1 - omega) / (1 + omega)
        else:
            raise ValueError(f"CauchyCase: z must be axis, plane, fft or near_pole, got {self.z!r}")
        v = draw.complex_normal(*self.v_rows, self.modes)
        return {"v": v, "z": z, "w": w, "conjugate_pairs": self.conjugate_pairs}


def _cauchy(
    rows: tuple[int, ...], modes: int, nodes: int, *tags: str, **options: Any
) -> CauchyCase:
    w_rows = options.pop("w_rows", rows)
    return CauchyCase(
        v_rows=rows, w_rows=w_rows, modes=modes, nodes=nodes, tags=frozenset(tags), **options
    )


CAUCHY = (
    _cauchy((1,), 1, 1, "gradcheck"),
    _cauchy((), 1, 2, "gradcheck", note="no leading dimension"),
    _cauchy((2,), 7, 3, "gradcheck", "quick", z="plane"),
    _cauchy((2,), 3, 5, "gradcheck", z="plane", conjugate_pairs=False),
    _cauchy((2, 1, 3), 2, 3, "gradcheck", w_rows=(2, 1), note="broadcast both ways"),
    _cauchy((3,), 7, 37),
    _cauchy((3,), 32, 64, "quick", conjugate_pairs=False),
    _cauchy((3,), 7, 129, note="odd everything: SIMD and block tails"),
    _cauchy((3,), 7, 129, conjugate_pairs=False, z="plane"),
    _cauchy((4,), 32, 501, "quick", z="fft", note="S4 nodes with the almost-pole at Nyquist"),
    _cauchy((4,), 32, 33, z="fft"),
    _cauchy((2, 3, 4), 7, 37, w_rows=(4,)),
    _cauchy((2, 1, 4), 5, 64, w_rows=(3, 1), z="plane"),
    _cauchy((4,), 32, 1000, z="near_pole", note="|z - w| = 1e-3"),
    _cauchy((4,), 32, 129, z="near_pole", conjugate_pairs=False),
    _cauchy((3,), 1, 1009, note="prime"),
    _cauchy((512,), 1, 3),
    _cauchy((512,), 32, 2, z="plane", note="more rows than work in a row: split over threads"),
    _cauchy((0,), 7, 5, note="empty batch"),
    _cauchy((512,), 32, 501, "bench", note="one product of an SSSD-ECG layer"),
)

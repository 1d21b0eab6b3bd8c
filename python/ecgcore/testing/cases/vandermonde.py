"""Cases of ``vandermonde`` and ``vandermonde_transpose``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ecgcore.testing.cases.base import Case, Draw

Rows = tuple[int, ...]


def _word(rows: Rows) -> str:
    return "x".join(map(str, rows)) or "0d"


def _log_x(draw: Draw, rows: Rows, modes: int, kind: str, L: int) -> Tensor:
    """``decay``: ``dt A`` of an S4D-Lin layer; ``grow``: every other mode grows, by up to a factor
    of 100 over the length; ``fast``: gone after a few samples."""
    imag = math.pi * torch.arange(modes, dtype=torch.float64) * draw.uniform(0.9, 1.1, *rows, modes)
    dt = torch.exp(draw.uniform(math.log(1e-3), math.log(1e-1), *rows, 1))
    real = -draw.uniform(0.3, 0.7, *rows, modes) * dt
    if kind == "grow":
        growth = draw.uniform(0.0, math.log(100.0) / L, *rows, modes)
        real = torch.where(torch.arange(modes) % 2 == 0, growth, real)
    elif kind == "fast":
        real = real - 30.0
    elif kind != "decay":
        raise ValueError(f"VandermondeCase: kind must be decay, grow or fast, got {kind!r}")
    return torch.complex(real, imag * dt)


@dataclass(frozen=True, kw_only=True)
class VandermondeCase(Case):
    """``v_rows + (modes,)``, ``x_rows + (modes,)``, ``L`` samples, modes of the named kind."""

    op: ClassVar[str] = "vandermonde"
    v_rows: Rows
    x_rows: Rows
    modes: int
    L: int
    conjugate_pairs: bool = True
    kind: str = "decay"

    @property
    def name(self) -> str:
        x = "" if self.x_rows == self.v_rows else f"_x{_word(self.x_rows)}"
        form = "pairs" if self.conjugate_pairs else "plain"
        return f"{form}_{_word(self.v_rows)}{x}_N{self.modes}_L{self.L}_{self.kind}"

    @property
    def wrt(self) -> tuple[str, ...]:
        return ("v", "log_x")

    def draw(self, draw: Draw) -> dict[str, Any]:
        return {
            "v": draw.complex_normal(*self.v_rows, self.modes),
            "log_x": _log_x(draw, self.x_rows, self.modes, self.kind, self.L),
            "L": self.L,
            "conjugate_pairs": self.conjugate_pairs,
        }


@dataclass(frozen=True, kw_only=True)
class VandermondeTransposeCase(Case):
    """Signals ``u_rows + (L,)`` run through ``rows + (modes,)``."""

    op: ClassVar[str] = "vandermonde_transpose"
    u_rows: Rows
    v_rows: Rows
    x_rows: Rows
    modes: int
    L: int
    kind: str = "decay"

    @property
    def name(self) -> str:
        rows = f"{_word(self.u_rows)}_v{_word(self.v_rows)}_x{_word(self.x_rows)}"
        return f"{rows}_N{self.modes}_L{self.L}_{self.kind}"

    @property
    def wrt(self) -> tuple[str, ...]:
        return ("u", "v", "log_x")

    def draw(self, draw: Draw) -> dict[str, Any]:
        return {
            "u": draw.normal(*self.u_rows, self.L),
            "v": draw.complex_normal(*self.v_rows, self.modes),
            "log_x": _log_x(draw, self.x_rows, self.modes, self.kind, self.L),
            "L": self.L,
        }


def _sum(rows: Rows, modes: int, L: int, *tags: str, **options: Any) -> VandermondeCase:
    x_rows = options.pop("x_rows", rows)
    return VandermondeCase(
        v_rows=rows, x_rows=x_rows, modes=modes, L=L, tags=frozenset(tags), **options
    )


def _transpose(
    u: Rows, v: Rows, x: Rows, modes: int, L: int, *tags: str, **options: Any
) -> VandermondeTransposeCase:
    return VandermondeTransposeCase(
        u_rows=u, v_rows=v, x_rows=x, modes=modes, L=L, tags=frozenset(tags), **options
    )


VANDERMONDE = (
    _sum((1,), 1, 1, "gradcheck"),
    _sum((), 2, 3, "gradcheck", note="no leading dimension"),
    _sum((2,), 3, 5, "gradcheck", "quick", kind="grow"),
    _sum((2,), 3, 4, "gradcheck", conjugate_pairs=False, kind="grow"),
    _sum((2, 1, 3), 2, 3, "gradcheck", x_rows=(2, 1), note="broadcast both ways"),
    _sum((2, 3), 2, 3, "gradcheck", x_rows=(3,), conjugate_pairs=False, note="heads"),
    _sum((3,), 7, 37),
    _sum((3,), 33, 31, note="fewer samples than one row of a table, odd modes"),
    _sum((3,), 7, 513, kind="grow", note="one sample beyond a block"),
    _sum((3,), 7, 129, conjugate_pairs=False),
    _sum((2, 3, 4), 7, 37, x_rows=(4,), kind="fast"),
    _sum((4,), 32, 1000, "quick", limit=5e-7),
    _sum((2, 4), 32, 1000, x_rows=(4,), kind="grow"),
    _sum((3,), 1, 1009, conjugate_pairs=False, note="prime"),
    _sum((2,), 32, 16384, limit=5e-7, note="the error does not grow with the length"),
    _sum((512,), 1, 3),
    _sum((512,), 32, 5, note="more rows than work in a row: split over threads"),
    _sum((0,), 7, 5, note="empty batch"),
    _sum((512,), 32, 1000, "bench", note="an S4D layer"),
)
VANDERMONDE_TRANSPOSE = (
    _transpose((1,), (1,), (1,), 1, 1, "gradcheck"),
    _transpose((), (), (), 2, 3, "gradcheck", note="no leading dimension"),
    _transpose((2, 2), (2,), (2,), 3, 5, "gradcheck", "quick", kind="grow"),
    _transpose((2, 1), (3,), (2, 3), 2, 4, "gradcheck", note="broadcast every way"),
    _transpose((3,), (3,), (3,), 7, 37, kind="fast"),
    _transpose((2, 3), (3,), (3,), 33, 129),
    _transpose((3,), (3,), (3,), 7, 513, kind="grow"),
    _transpose((2, 4), (4,), (4,), 32, 1000, "quick", note="states of an S4D layer"),
    _transpose((512,), (512,), (512,), 7, 3, note="split over threads"),
    _transpose((0, 3), (3,), (3,), 7, 5, note="empty batch"),
)

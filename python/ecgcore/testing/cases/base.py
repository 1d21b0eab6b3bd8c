"""What a case is, and how its inputs are drawn.

A case knows its sizes and how to draw its inputs, nothing about how they are judged
(``compare.py``). Inputs are a dictionary of keyword arguments, so that ``getattr(ecgcore.ops,
case.op)(**case.inputs())`` is the call. They are drawn on the CPU in double precision from a seed
made of the case itself and then rounded, so every device sees the same numbers, and a double
precision run sees parameters with all their bits.
"""

from __future__ import annotations

import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

COMPLEX = {
    torch.float32: torch.complex64,
    torch.float64: torch.complex128,
    torch.float16: torch.complex64,
    torch.bfloat16: torch.complex64,
}
"""The complex type that goes with a real one; spectra of half precision signals are complex64."""


@dataclass(frozen=True, kw_only=True)
class Case(ABC):
    """One call of one op. ``tags``: ``quick`` (the two-second self-test), ``bench`` (timed; too
    large for the unfused reference in a unit test), ``gradcheck`` (small enough for finite
    differences)."""

    op: ClassVar[str] = ""
    half: ClassVar[tuple[str, ...]] = ()
    """Arguments that half precision is for; the others are then float32."""
    writes: ClassVar[tuple[str, ...]] = ()
    """Arguments of the caller's that the op writes: an op for inference, without gradients."""
    note: str = ""
    tags: frozenset[str] = field(default_factory=frozenset)
    limit: float | None = None
    """Absolute ceiling on the relative error of the float32 output, where one is promised: of the
    native kernels, other backends may be as inexact as the reference."""

    @classmethod
    def function(cls, library: ModuleType) -> Callable[..., Any]:
        """The op of ``ecgcore.ops`` or ``ecgcore.ops.reference`` as a function of the inputs."""
        function: Callable[..., Any] = getattr(library, cls.op)
        return function

    @property
    @abstractmethod
    def name(self) -> str:
        """Sizes and switches in one word; with the op, the seed of the inputs."""

    @property
    @abstractmethod
    def wrt(self) -> tuple[str, ...]:
        """Arguments whose gradients are compared."""

    @abstractmethod
    def draw(self, draw: Draw) -> dict[str, Any]:
        """The inputs in double precision on the CPU."""

    def inputs(
        self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> dict[str, Any]:
        """Keyword arguments of the op in the precision ``dtype`` (a real dtype) on ``device``."""
        seed = zlib.crc32(f"{self.op} {self.name}".encode())
        return {
            name: _cast(value, dtype, self, name).to(device) if isinstance(value, Tensor) else value
            for name, value in self.draw(Draw(seed)).items()
        }

    def __str__(self) -> str:
        return self.name


def _cast(value: Tensor, dtype: torch.dtype, case: Case, name: str) -> Tensor:
    if value.is_complex():
        return value.to(COMPLEX[dtype])
    if not value.is_floating_point():
        return value
    if dtype.itemsize < 4 and name not in case.half:
        return value.to(torch.float32)
    return value.to(dtype)


class Draw:
    """Seeded numbers in double precision."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)

    def normal(self, *shape: int) -> Tensor:
        return torch.from_numpy(np.asarray(self.rng.standard_normal(shape)))

    def complex_normal(self, *shape: int) -> Tensor:
        """Circular, unit variance."""
        return torch.complex(self.normal(*shape), self.normal(*shape)) / math.sqrt(2)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(np.asarray(self.rng.uniform(low, high, shape)))


def stored_omega(L: int) -> Tensor:
    """The FFT nodes as S4 checkpoints hold them: ``exp(-2 pi i / L)`` rounded to complex64, then
    raised in complex64.

    They lie up to 5e-6 off the unit circle. ``(L//2 + 1,)`` complex128 with complex64 values.
    """
    base = torch.tensor(np.exp(-2j * np.pi / L), dtype=torch.complex64)
    return (base ** torch.arange(L // 2 + 1)).to(torch.complex128)

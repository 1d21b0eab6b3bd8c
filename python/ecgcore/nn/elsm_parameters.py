"""Parameters of the second S4 generation: shared copies, learning rates, signs kept by a map."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgcore.nn.ssm_common import as_complex, as_real, check_output, check_rate, register
from ecgcore.nn.streaming import Recurrent


def _unchanged(x: Tensor) -> Tensor:
    return x


def _inverse_softplus(x: Tensor) -> Tensor:
    return x + torch.log(-torch.expm1(-x))  # log(exp(x) - 1) without overflow


_REAL_MAPS: Mapping[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "exp": (torch.exp, torch.log),
    "none": (_unchanged, _unchanged),
    "relu": (F.relu, _unchanged),
    "sigmoid": (torch.sigmoid, torch.logit),
    "softplus": (F.softplus, _inverse_softplus),
}
"""What is stored to ``-Re A``, and back."""

LearningRate = float | Mapping[str, float | None] | None


class SharedStateKernel(Recurrent):
    """``H`` features on ``n_ssm`` systems of ``n`` modes: feature ``h`` has system ``h % n_ssm``.

    Holds the parameters ``C (channels, H, n, 2)`` and ``log_dt (H,)``; a subclass adds those of its
    systems with :meth:`add`.

    Raises:
        ValueError: for shapes that do not fit, or options out of range.
    """

    C: Tensor
    log_dt: Tensor

    def __init__(
        self,
        A: Tensor,
        C: Tensor,
        log_dt: Tensor,
        lr: LearningRate,
        real_type: str,
        bandlimit: float | None,
    ) -> None:
        super().__init__()
        owner = self._get_name()
        check_output(owner, C, log_dt)
        self.channels, self.H, self.N = C.shape
        if A.dim() != 2 or A.shape[1] != self.N or A.shape[0] < 1 or self.H % A.shape[0]:
            raise ValueError(
                f"{owner}: the state matrix must have shape (n_ssm, {self.N}) with n_ssm a "
                f"divisor of H = {self.H}, got {tuple(A.shape)}"
            )
        self.n_ssm = A.shape[0]
        if real_type not in _REAL_MAPS:
            raise ValueError(
                f"{owner}: real_type must be one of {', '.join(_REAL_MAPS)}, got {real_type!r}"
            )
        if bandlimit is not None and not bandlimit > 0:
            raise ValueError(f"{owner}: bandlimit must be positive or None, got {bandlimit}")
        self.real_type, self.bandlimit = real_type, bandlimit
        self.learning_rates = _learning_rates(owner, lr)
        self.C = nn.Parameter(as_real(C.conj(), log_dt.dtype))
        self.add("log_dt", log_dt.clone(), "dt")

    def add(self, name: str, value: Tensor, group: str) -> None:
        """A parameter with its optimiser settings noted, or a buffer if its rate is exactly 0."""
        lr = self.learning_rates.get(group)
        register(self, name, value, trains=lr != 0.0, note="_s4_optimizer", lr=lr)

    def add_state_matrix(self, real: str, imaginary: str, A: Tensor, tolerance: float) -> None:
        """Register a diagonal state matrix, its real part by what maps to it."""
        dtype = self.log_dt.dtype
        positive = -A.real.double().clamp(max=-tolerance)
        value = _REAL_MAPS[self.real_type][1](positive)
        if not value.is_meta and not torch.isfinite(value).all():
            raise ValueError(
                f"{self._get_name()}: real_type {self.real_type!r} cannot hold a real part of "
                f"{A.real.min().item():g}"
            )
        self.add(real, value.to(dtype), "A")
        self.add(imaginary, A.imag.to(dtype, copy=True), "A")

    def tiled(self, value: Tensor) -> Tensor:
        """``(..., n_ssm, n)`` as ``(..., H, n)``; a single system stays as it is."""
        if self.n_ssm in (1, self.H):
            return value
        repeats = [1] * (value.dim() - 2) + [self.H // self.n_ssm, 1]
        return value.repeat(repeats)

    def output(self, A: Tensor) -> Tensor:
        """``C (channels, H, n)`` complex, without the modes above the band limit.

        A mode is left out where its frequency, ``|Im A| dt / 2 pi`` in cycles per sample at rate 1,
        is at least ``bandlimit / 2``.
        """
        C = as_complex(self.C)
        if self.bandlimit is None:
            return C
        frequency = A.imag.abs() * torch.exp(self.log_dt)[:, None] / (2 * math.pi)
        return C * (frequency < self.bandlimit / 2)

    def check_request(self, rate: float, L: int | None) -> None:
        check_rate(self._get_name(), rate)
        if L is not None and L < 1:
            raise ValueError(f"{self._get_name()}: L must be at least 1, got {L}")

    def extra_repr(self) -> str:
        return (
            f"H={self.H}, N={2 * self.N}, n_ssm={self.n_ssm}, channels={self.channels}, "
            f"real_type={self.real_type}"
        )


def positive_real_part(stored: Tensor, real_type: str) -> Tensor:
    """``-Re A`` from what is stored."""
    return _REAL_MAPS[real_type][0](stored)


def _learning_rates(owner: str, lr: LearningRate) -> dict[str, float | None]:
    if not isinstance(lr, Mapping):
        return dict.fromkeys(("dt", "A", "B"), lr)
    unknown = set(lr) - {"dt", "A", "B"}
    if unknown:
        raise ValueError(f"{owner}: lr has keys dt, A, B, got {', '.join(sorted(unknown))}")
    return dict(lr)

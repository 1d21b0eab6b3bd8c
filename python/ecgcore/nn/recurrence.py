"""State-space kernels as recurrences: one sample in, one out, at constant cost.

The convolution kernel of a state space and its recurrence are two readings of the same discrete
matrices (Gu, Goel, Ré 2022, "Efficiently Modeling Long Sequences with Structured State Spaces",
section 2.3). Coefficients are set up in float64, whatever the parameters are: the solve for ``C``
is ill conditioned. What a step multiplies by are the coefficients of what is *added* to the state,
which may be rounded to the parameters' precision: see ``docs/numerics.md``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ecgcore import ops
from ecgcore.ops import discrete

MODES = ("dense", "linear", "diagonal")

DIAGONAL_LIMIT = 1e-5
"""How far the impulse response in an eigenbasis may be from the true one, relative to its largest
sample, before :func:`nplr` refuses the mode."""


@dataclass(frozen=True)
class Recurrence(ABC):
    """The coefficients of one mode; ``step`` is a pure function of sample and state."""

    zero_state: Tensor
    """``(H, states)`` complex."""

    dtype: torch.dtype
    """Of samples in and out; the state may be more precise."""

    def default_state(self, *batch: int) -> Tensor:
        """The state at rest, ``(*batch, H, states)``."""
        return self.zero_state.expand(*batch, -1, -1).contiguous()

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """``u (B, H)`` real and ``state (B, H, states)`` to ``y (B, C, H)`` real and the state that
        has absorbed ``u``."""
        H, states = self.zero_state.shape
        if u.dim() != 2 or u.shape[1] != H or u.dtype != self.dtype:
            raise ValueError(
                f"step: u must be {_word(self.dtype)} (B, {H}), "
                f"got {_word(u.dtype)} {tuple(u.shape)}"
            )
        own = self.zero_state.dtype
        if state.shape != (u.shape[0], H, states) or state.dtype not in (own, self._narrow):
            raise ValueError(
                f"step: state must be {_word(own)} {(u.shape[0], H, states)}, "
                f"got {_word(state.dtype)} {tuple(state.shape)}"
            )
        return self._step(u, state.to(own))

    @property
    def _narrow(self) -> torch.dtype:
        """The complex numbers of the samples' precision, which the state holds exactly."""
        return torch.complex64 if self.dtype == torch.float32 else torch.complex128

    @abstractmethod
    def _step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`step` of arguments that fit."""


@dataclass(frozen=True)
class ModalRecurrence(Recurrence):
    """Diagonal plus low rank: one call of :func:`ecgcore.ops.ssm_step`, O(states) a sample."""

    state_dtype: torch.dtype  # of the real and imaginary parts
    A: Tensor  # (H, N), of the discrete matrix minus the identity
    B: Tensor  # (H, N)
    C: Tensor  # (C, H, N)
    P: Tensor  # (R, H, N)
    Q: Tensor  # (R, H, N)

    def _step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        u = u.to(self.state_dtype)
        y, state = ops.ssm_step(state, u, self.A, self.B, self.C, P=self.P, Q=self.Q)
        return y.to(self.dtype), state


@dataclass(frozen=True)
class DenseRecurrence(Recurrence):
    """Full matrices on the state extended by its conjugates, as matrix products: O(states²)."""

    increment: Tensor  # (H, 2n, 2n), the discrete matrix minus the identity
    dB: Tensor  # (H, 2n)
    dC: Tensor  # (C, H, 2n)

    @property
    def dA(self) -> Tensor:
        """The discrete state matrix, ``(H, 2n, 2n)``: kept modes first, then their conjugates."""
        return self.increment + torch.eye(self.increment.shape[-1], device=self.dB.device)

    def _step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        added = torch.einsum("hmn,bhn->bhm", self.increment, state) + self.dB * u.unsqueeze(-1)
        state = state + added
        return torch.einsum("chn,bhn->bch", self.dC, state).real, state


def nplr(
    mode: str, w: Tensor, B: Tensor, C: Tensor, P: Tensor, Q: Tensor, dt: Tensor, L: int
) -> Recurrence:
    """The recurrence whose impulse response is the S4 kernel, bilinear as the kernel is.

    Args:
        mode: ``"dense"``: 2n x 2n matrices on the conjugate-extended state, torch's products.
            ``"linear"``: diagonal plus low rank on the n kept modes, the fused op. ``"diagonal"``:
            in the eigenbasis of the discrete matrix, 2n independent states, the fused op. That
            basis may be far from orthogonal; the state is therefore double precision always.
        w: diagonal of the state matrix, ``(H|1, n)`` complex.
        B: ``(H|1, n)`` complex.
        C: ``(C, H, n)`` complex, corrected for ``L``; its precision is that of the result.
        P, Q: ``(R, H|1, n)`` complex.
        dt: steps ``(H,)``, float64.
        L: the length that ``C`` is corrected for; 0 where it is plain.

    Raises:
        ValueError: for an unknown mode; for ``"diagonal"`` where the eigenvectors are too close to
            dependent for double precision.
    """
    check_mode(mode)
    H, dtype = len(dt), C.dtype
    w, B, C, P, Q = (t.to(torch.complex128) for t in (w, B, C, P, Q))
    step = discrete.bilinear(discrete.state_matrix(w, P, Q), dt)
    if L:
        C = discrete.rows_over_truncation(C, step, L)
    A, Bbar, P, Q = discrete.bilinear_low_rank(w, B, P, Q, dt)
    if mode == "linear":
        return _modal(A, Bbar, C, P, Q, dtype, dtype)
    dense_A, dense_B = discrete.conjugate_extended(step), torch.cat([Bbar, Bbar.conj()], -1)
    dense_C = torch.cat([C, C.conj()], -1)
    if mode == "dense":
        eye = torch.eye(dense_A.shape[-1], device=dt.device)
        zero = torch.zeros(dense_B.shape, dtype=dtype, device=dt.device)
        matrices = [t.to(dtype) for t in (dense_A - eye, dense_B, dense_C)]
        return DenseRecurrence(zero, dtype.to_real(), *matrices)
    values, vectors = torch.linalg.eig(dense_A)
    B_modal = torch.linalg.solve(vectors, dense_B)
    C_modal = torch.einsum("chn,hnm->chm", dense_C, vectors)
    _check_eigenbasis(values, B_modal, C_modal, dense_A, dense_B, dense_C, max(L, 64))
    none = values.new_empty((0, H, values.shape[-1]))
    # ssm_step reads 2 Re(C x) off conjugate pairs; here every state is there itself.
    return _modal(values - 1, B_modal, C_modal / 2, none, none, dtype, torch.complex128)


def diagonal(A: Tensor, B: Tensor, C: Tensor, dt: Tensor, discretization: str) -> Recurrence:
    """The recurrence of a diagonal state space (S4D), ``y = 2 Re(C x)``.

    Args:
        A: diagonal of the state matrix, ``(H|1, n)`` complex.
        B: ``(H|1, n)`` complex.
        C: ``(C, H, n)`` complex; its precision is that of the result.
        dt: steps ``(H,)``, float64.
        discretization: ``"zoh"`` or ``"bilinear"``.

    Raises:
        ValueError: for ``"dss"``, whose kernel depends on its length.
    """
    _, increment, Bbar = _discrete_diagonal(A, B, dt, discretization)
    none = increment.new_empty((0, *increment.shape))
    return _modal(increment, Bbar, C, none, none, C.dtype, C.dtype)


def nplr_state(
    w: Tensor, B: Tensor, P: Tensor, Q: Tensor, dt: Tensor, u: Tensor, state: Tensor
) -> Tensor:
    """The state ``(B, H, n)``, complex128, after ``u (B, H, T)`` from ``state (B, H, n)``; the
    system as in :func:`nplr`."""
    w, B, P, Q = (t.to(torch.complex128) for t in (w, B, P, Q))
    step = discrete.bilinear(discrete.state_matrix(w, P, Q), dt)
    return discrete.advance(step, discrete.bilinear_low_rank(w, B, P, Q, dt)[1], state, u)


def diagonal_state(
    A: Tensor, B: Tensor, dt: Tensor, discretization: str, u: Tensor, state: Tensor
) -> Tensor:
    """:func:`nplr_state` of a diagonal system, as in :func:`diagonal`."""
    log_Abar, _, Bbar = _discrete_diagonal(A, B, dt, discretization)
    T = u.shape[-1]
    decayed = torch.exp(log_Abar * T) * state.to(log_Abar.dtype)
    if T == 0:
        return decayed
    return decayed + ops.vandermonde_transpose(u.to(dt.dtype).flip(-1), Bbar, log_Abar, T)


def _discrete_diagonal(
    A: Tensor, B: Tensor, dt: Tensor, discretization: str
) -> tuple[Tensor, Tensor, Tensor]:
    """``log(Abar)``, ``Abar - 1`` and ``Bbar``, ``(H, n)`` complex128."""
    A, B, step = A.to(torch.complex128), B.to(torch.complex128), dt[:, None]
    if discretization == "zoh":
        return step * A, torch.expm1(step * A), B * torch.expm1(step * A) / A
    if discretization == "bilinear":
        halved = 1 - step * A / 2
        return torch.log((2 - halved) / halved), step * A / halved, step * B / halved
    raise ValueError(
        f"S4D: the discretization {discretization!r} has no recurrence, 'zoh' and 'bilinear' have"
    )


def _modal(
    A: Tensor,
    B: Tensor,
    C: Tensor,
    P: Tensor,
    Q: Tensor,
    dtype: torch.dtype,
    state_dtype: torch.dtype,
) -> ModalRecurrence:
    # Copies: a plain C is a view of the parameter still.
    rounded = [
        t.to(state_dtype).clone(memory_format=torch.contiguous_format).resolve_conj()
        for t in (A, B, C, P, Q)
    ]
    zero = torch.zeros_like(rounded[0])
    return ModalRecurrence(zero, dtype.to_real(), state_dtype.to_real(), *rounded)


def _check_eigenbasis(
    values: Tensor, B: Tensor, C: Tensor, dense_A: Tensor, dense_B: Tensor, dense_C: Tensor, L: int
) -> None:
    """Compare the impulse response in the eigenbasis with the true one at lags 0, 1, 2, 4 .. L."""
    lag, power, x = 0, dense_A, dense_B
    size = worst = torch.zeros((), dtype=torch.float64, device=values.device)
    while lag <= L:
        true = torch.einsum("chn,hn->ch", dense_C, x).real
        found = torch.einsum("chn,hn->ch", C, values**lag * B).real
        size = torch.maximum(size, true.abs().max())
        worst = torch.maximum(worst, (found - true).abs().nan_to_num(torch.inf).max())
        if lag > 0:
            power = power @ power
        lag = max(1, 2 * lag)
        x = torch.einsum("hnm,hm->hn", power, dense_B)
    error = (worst / size).item()
    if not error <= DIAGONAL_LIMIT:
        raise ValueError(
            f"setup_step: mode 'diagonal' is off by {error:.1e} here, since the eigenvectors of "
            "the discrete state matrix are nearly dependent; use 'linear' or 'dense'"
        )


def check_mode(mode: str) -> None:
    if mode not in MODES:
        raise ValueError(f"setup_step: mode must be one of {', '.join(MODES)}, got {mode!r}")


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

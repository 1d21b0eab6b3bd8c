"""What the S4 kernels of both generations share: storage of complex numbers, nodes, correction."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ecgcore.ops import discrete

COMPLEX_OF = {torch.float32: torch.complex64, torch.float64: torch.complex128}
_ODD_LENGTHS = ("exact", "reference")


def reference_nodes(
    L: int, dtype: torch.dtype, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """``omega`` and ``z``, ``(L//2+1, 2)``, rounded just as the reference rounds them.

    ``omega_j`` is the j-th power, in single precision, of a rounded root of unity: angle and
    modulus drift by up to 5e-6, which moves the kernel by 1e-4 and keeps
    ``z = 2 (1 - omega) / (1 + omega)`` finite at Nyquist. Checkpoints hold these numbers, and their
    weights are fitted to them.
    """
    wide = COMPLEX_OF[dtype]
    angle = -2 * math.pi / L
    root = torch.tensor(complex(math.cos(angle), math.sin(angle)), dtype=wide, device=device)
    omega = root ** torch.arange(L // 2 + 1, device=device)
    z = 2 * (1 - omega) / (1 + omega)
    return torch.view_as_real(omega), torch.view_as_real(z)


def check_switches(owner: str, odd_length: str) -> None:
    if odd_length not in _ODD_LENGTHS:
        raise ValueError(f"{owner}: odd_length must be 'exact' or 'reference', got {odd_length!r}")


def spread(
    owner: str, name: str, value: Tensor, shape: tuple[int | None, ...], short: int
) -> Tensor:
    """``value`` with ``short`` dimensions or all of them, expanded to ``shape``; materialised."""
    given = tuple(value.shape)
    if value.dim() == short:
        value = value.unsqueeze(-2)
    while value.dim() < len(shape):
        value = value.unsqueeze(0)
    try:
        return value.expand([-1 if s is None else s for s in shape]).clone()
    except RuntimeError:
        raise ValueError(
            f"{owner}: {name} must fit {tuple('rank' if s is None else s for s in shape)}, "
            f"got {given}"
        ) from None


def as_real(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Complex numbers as they are stored: a real tensor with a last axis of (real, imaginary)."""
    return torch.view_as_real(value.resolve_conj()).to(dtype, copy=True)


def as_complex(value: Tensor) -> Tensor:
    """The complex numbers of a stored tensor, a view."""
    if value.dtype not in COMPLEX_OF:
        raise TypeError(
            "S4 kernel: parameters must stay float32 or float64, got "
            f"{str(value.dtype).removeprefix('torch.')}; for half precision use torch.autocast"
        )
    return torch.view_as_complex(value)


OPTIMIZER_NOTES = "optimizer_notes"
"""The attribute in which a module keeps what it noted at its parameters, by name."""


def register(
    module: nn.Module, name: str, value: Tensor, *, trains: bool, note: str, lr: float | None
) -> None:
    """A parameter, with what an optimiser should know in its attribute ``note``; or a buffer."""
    if not trains:
        module.register_buffer(name, value)
        return
    parameter = nn.Parameter(value)
    settings = {"weight_decay": 0.0} | ({} if lr is None else {"lr": lr})
    setattr(parameter, note, settings)
    # Copies of a parameter lose its attributes, copies of a module do not.
    module.__dict__.setdefault(OPTIMIZER_NOTES, {})[name] = settings
    module.register_parameter(name, parameter)


def check_output(owner: str, C: Tensor, log_dt: Tensor) -> None:
    if C.dim() != 3 or log_dt.shape != C.shape[1:2]:
        raise ValueError(
            f"{owner}: C must have shape (channels, H, n) and log_dt (H,), "
            f"got {tuple(C.shape)} and {tuple(log_dt.shape)}"
        )


def check_rate(owner: str, rate: float) -> None:
    if not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"{owner}: rate must be a positive number, got {rate}")


def check_state(owner: str, state: Tensor, H: int, n: int) -> None:
    if state.dim() != 3 or state.shape[1:] != (H, n) or not state.is_complex():
        raise ValueError(
            f"{owner}: state must be complex (S, {H}, {n}), got {state.dtype} {tuple(state.shape)}"
        )


def state_as_input(state: Tensor, w: Tensor, P: Tensor, Q: Tensor, dt: Tensor) -> Tensor:
    """The input vector ``s/dt + A s/2`` whose impulse response is that of the state ``s``.

    ``Abar s = (I - dt A/2)^-1 (I + dt A/2) s`` is the bilinear ``Bbar`` of just that vector.

    Args:
        state: ``(S, H, n)`` complex.
        w: ``(H|1, n)``.
        P, Q: ``(rank, H|1, n)``.
        dt: ``(H,)``.
    """
    H = state.shape[1]
    both = 2 * torch.einsum("rhn,shn->rsh", Q.expand(-1, H, -1), state).real
    low_rank = torch.einsum("rhn,rsh->shn", P.expand(-1, H, -1), both.to(P.dtype))
    return state / dt[:, None] + (w * state - low_rank) / 2


@torch.no_grad()
def corrected(
    C: Tensor, w: Tensor, P: Tensor, Q: Tensor, log_dt: Tensor, L: int, sign: int
) -> Tensor:
    """``C (I + sign Abar^L)`` for the bilinear ``Abar``, evaluated in float64.

    Minus corrects ``C`` for a kernel of ``L`` samples, plus takes that on to ``2 L`` samples.
    """
    step = discrete.bilinear(discrete.state_matrix(w, P, Q), torch.exp(log_dt.double()))
    return C + sign * discrete.rows_times_power(C.to(torch.complex128), step, L)

# SPDX-License-Identifier: MIT
"""The S4D convolution kernel: a diagonal state matrix, discretised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ecgcore import _backend
from ecgcore.ops import _keops, _shared

DISCRETIZATIONS = ("zoh", "bilinear", "dss")


def diag_kernel(
    A: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    L: int,
    *,
    discretization: str = "zoh",
) -> Tensor:
    r"""Convolution kernel of the diagonal state-space model ``x' = A x + B u``, ``y = 2 Re C x``.

    With ``d = dt A``, one of each conjugate pair of modes given,

    .. math::
        \text{zoh:} \quad & 2 \operatorname{Re} \sum_n C_n B_n \frac{e^{d_n} - 1}{A_n} e^{d_n l} \\
        \text{bilinear:} \quad & 2 \operatorname{Re} \sum_n \frac{C_n B_n \Delta}{1 - d_n / 2}
            \left( \frac{1 + d_n / 2}{1 - d_n / 2} \right)^l \\
        \text{dss:} \quad & \operatorname{Re} \sum_n C_n B_n
            \frac{e^{d_n} - 1}{A_n (e^{d_n L} - 1)} e^{d_n l}

    for ``l = 0 .. L-1``: S4D (Gu, Gupta, Goel, Ré 2022, "On the Parameterization and Initialization
    of Diagonal State Space Models") and DSS (Gupta, Gu, Berant 2022, "Diagonal State Spaces are as
    Effective as Structured State Spaces"). ``dss`` normalises each mode over the length; as in its
    authors' code the reciprocal of ``x = A (e^{dL} - 1)`` is ``conj(x) / (|x|^2 + 1e-7)``, a mode
    that grows (``Re A > 0``) has ``-d`` in the normaliser and ``d (l - L + 1)`` in the exponent,
    and derivatives take the shift ``d (L - 1)`` for a constant.

    Args:
        A: diagonal of the state matrix, ``(H or 1, N)``, complex64 or complex128, any ``N >= 1``.
        B: input vectors, ``(S, H or 1, N)``.
        C: output vectors, ``(C, H, N)``.
        dt: step size, ``(H,)``, float32 or float64 as the others.
        L: number of samples.
        discretization: ``"zoh"`` (zero-order hold), ``"bilinear"`` or ``"dss"``.

    Returns:
        ``(S, C, H, L)``, real.

    Where a size is 1 in place of ``H``, all features share the numbers. Differentiable once in all
    four tensors; only the gradients needed are computed.

    Raises:
        TypeError: for arguments that are not tensors.
        ValueError: for wrong dtypes, shapes or devices, for ``L < 1`` and other discretizations.
    """
    op = "diag_kernel"
    operands = {"C": C, "A": A, "B": B, "dt": dt}
    for name, value in operands.items():
        _shared.check_tensor(op, name, value)
    _shared.check_dtype(op, "C", C, torch.complex64, torch.complex128)
    _shared.check_shape(op, "C", C, "(C, H, N)", (None, None, None))
    _, H, N = C.shape
    if N < 1:
        _shared.fail(op, f"C must have shape (C, H, N) with N >= 1, got {tuple(C.shape)}")
    _shared.check_length(op, L)
    if discretization not in DISCRETIZATIONS:
        _shared.fail(op, f"discretization must be zoh, bilinear or dss, got {discretization!r}")
    shapes: dict[str, tuple[str, tuple[int | None, ...]]] = {
        "A": ("(H|1, N)", (H, N)),
        "B": ("(S, H|1, N)", (None, H, N)),
        "dt": ("(H,)", (H,)),
    }
    for name, (symbols, shape) in shapes.items():
        value = operands[name]
        _shared.check_dtype(op, name, value, _shared.REAL_OF[C.dtype] if name == "dt" else C.dtype)
        _shared.check_device(op, name, value, C.device)
        _shared.check_feature_shape(op, name, value, symbols, shape, f"C {tuple(C.shape)}")
    if _backend.current_backend() == "reference":
        return diag_kernel_reference(A, B, C, dt, L, discretization=discretization)
    if _backend.current_backend() == "keops":
        A, B, C, wide_dt = (x.to(_shared.wide_like(x)) for x in (A, B, C, dt))
        return _composed(A, B, C, wide_dt, L, discretization, _keops.powers).to(dt.dtype)
    K: Tensor = _op(*(_shared.dense(x) for x in (A, B, C, dt)), L, discretization)
    return K


def diag_kernel_reference(
    A: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    L: int,
    *,
    discretization: str = "zoh",
) -> Tensor:
    """The definition of :func:`diag_kernel` in plain torch: ``H x N x L`` memory, any order of
    derivative."""
    return _composed(A, B, C, dt, L, discretization, _power_sums)


def _power_sums(weights: Tensor, exponents: Tensor, L: int, shift: Tensor | None = None) -> Tensor:
    """``sum_n w_n exp(x_n l - shift_n)``, ``(S, C, H, N)`` and ``(H, N)`` to ``(S, C, H, L)``."""
    angles = exponents[..., None] * torch.arange(L, device=exponents.device)  # (H, N, L)
    if shift is not None:
        angles = angles - shift[..., None]
    return torch.einsum("schn,hnl->schl", weights, torch.exp(angles))


def _composed(
    A: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    L: int,
    discretization: str,
    power_sums: Callable[..., Tensor],
) -> Tensor:
    """The kernel by its formulas, the sums of powers by ``power_sums``."""
    d = dt[:, None] * A  # (H, N)
    weights = B[:, None] * C  # (S, C, H, N)
    if discretization == "zoh":
        return 2 * power_sums(weights * (torch.exp(d) - 1) / A, d, L).real
    if discretization == "bilinear":
        weights = weights * dt[:, None] / (1 - d / 2)
        return 2 * power_sums(weights, torch.log((1 + d / 2) / (1 - d / 2)), L).real
    grows = A.real > 0
    falling = torch.where(grows, -d, d)
    x = (torch.exp(falling * L) - 1) * A
    weights = weights * (torch.exp(falling) - 1) * x.conj() / (x * x.conj() + 1e-7)
    shift = torch.where(grows, d * (L - 1), 0).detach()
    return power_sums(weights, d, L, shift).real


@torch.library.register_fake("ecgcore::diag_kernel")
def _fake(A: Tensor, B: Tensor, C: Tensor, dt: Tensor, L: int, discretization: str) -> Tensor:
    return dt.new_empty((B.shape[0], C.shape[0], C.shape[1], L))


@torch.library.register_fake("ecgcore::diag_kernel_backward")
def _fake_backward(
    grad: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    L: int,
    discretization: str,
    wanted: list[bool],
) -> tuple[Tensor, ...]:
    return _shared.fake_gradients((A, B, C, dt), wanted)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *operands, ctx.L, ctx.discretization = inputs
    ctx.save_for_backward(*operands)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    wanted = list(ctx.needs_input_grad[:4])
    grads = _backward_op(_shared.dense(grad), *ctx.saved_tensors, ctx.L, ctx.discretization, wanted)
    return *_shared.wanted_gradients(grads, wanted), None, None


_op = _shared.register_autograd("diag_kernel", _backward, _setup_context)
_backward_op = _shared.refuse_double_backward("diag_kernel")

# SPDX-License-Identifier: MIT
"""Sums of powers, S4D's kernel, and their transpose, which runs a state through a signal."""

from __future__ import annotations

import torch
from torch import Tensor

from ecgcore.ops import _shared


def vandermonde(v: Tensor, log_x: Tensor, L: int, *, conjugate_pairs: bool = True) -> Tensor:
    r"""Sums of the powers of every mode, weighted: a Vandermonde matrix times a vector.

    .. math:: r_l = 2 \operatorname{Re} \sum_n v_n e^{x_n l}, \quad l = 0, \dots, L - 1

    with ``x = log_x``: the convolution kernel of a diagonal state-space model, of which one of each
    conjugate pair of modes is stored (Gu, Gupta, Goel, Ré 2022, "On the Parameterization and
    Initialization of Diagonal State Space Models").

    Args:
        v: weights, ``(..., N)`` complex64 or complex128, any ``N >= 1``.
        log_x: logarithms of the bases, ``(..., N)``, same dtype, finite; leading dimensions of
            ``v`` and ``log_x`` broadcast.
        L: number of powers.
        conjugate_pairs: add the conjugate partner of every term. If false the result is
            ``sum_n v_n exp(x_n l)`` itself: complex, no real part, no factor 2.

    Returns:
        ``(..., L)``, real, or complex without ``conjugate_pairs``.

    Differentiable once in ``v`` and ``log_x``, with torch's convention for complex gradients; only
    what is needed is computed.

    Raises:
        TypeError: for arguments that are not tensors.
        ValueError: for wrong dtypes, shapes or devices, and for ``L < 1``.
    """
    op = "vandermonde"
    _shared.check_tensor(op, "v", v)
    _shared.check_tensor(op, "log_x", log_x)
    _shared.check_dtype(op, "v", v, torch.complex64, torch.complex128)
    _shared.check_dtype(op, "log_x", log_x, v.dtype)
    _shared.check_device(op, "log_x", log_x, v.device)
    _modes(op, v, log_x)
    _broadcast(op, v=v, log_x=log_x)
    _shared.check_length(op, L)
    return vandermonde_reference(v, log_x, L, conjugate_pairs=conjugate_pairs)


def vandermonde_transpose(u: Tensor, v: Tensor, log_x: Tensor, L: int) -> Tensor:
    r"""Signals times the powers of every mode, summed over time.

    .. math:: T_n = v_n \sum_l u_l e^{x_n l}, \quad l = 0, \dots, L - 1

    With ``u`` turned back to front it is the state that a diagonal state-space model has after it
    has seen the signal.

    Args:
        u: signals, ``(..., L)``, float32 or float64.
        v: weights, ``(..., N)``, complex64 or complex128 as goes with ``u``, any ``N >= 1``.
        log_x: logarithms of the bases, ``(..., N)``, dtype of ``v``, finite. Leading dimensions of
            ``u``, ``v`` and ``log_x`` broadcast.
        L: number of samples, which must be ``u.shape[-1]``.

    Returns:
        ``(..., N)``, complex.

    Differentiable once in ``u``, ``v`` and ``log_x``, with torch's convention for complex
    gradients; only what is needed is computed.

    Raises:
        TypeError: for arguments that are not tensors.
        ValueError: for wrong dtypes, shapes or devices, and for ``L`` other than the length.
    """
    op = "vandermonde_transpose"
    for name, value in (("u", u), ("v", v), ("log_x", log_x)):
        _shared.check_tensor(op, name, value)
    _shared.check_dtype(op, "u", u, torch.float32, torch.float64)
    for name, value in (("v", v), ("log_x", log_x)):
        _shared.check_dtype(op, name, value, _shared.COMPLEX_OF[u.dtype])
        _shared.check_device(op, name, value, u.device)
    _modes(op, v, log_x)
    _shared.check_length(op, L)
    if u.dim() < 1 or u.shape[-1] != L:
        _shared.fail(op, f"u must have shape (..., L) with L = {L}, got {tuple(u.shape)}")
    _broadcast(op, u=u, v=v, log_x=log_x)
    return vandermonde_transpose_reference(u, v, log_x, L)


def _modes(op: str, v: Tensor, log_x: Tensor) -> None:
    if v.dim() < 1 or log_x.dim() < 1 or v.shape[-1] != log_x.shape[-1] or v.shape[-1] < 1:
        _shared.fail(
            op,
            "v and log_x must have shape (..., N) with the same N >= 1, "
            f"got {tuple(v.shape)} and {tuple(log_x.shape)}",
        )


def _broadcast(op: str, **operands: Tensor) -> torch.Size:
    """The common leading shape of the operands."""
    try:
        return torch.broadcast_shapes(*(x.shape[:-1] for x in operands.values()))
    except RuntimeError:
        *names, last = operands
        *shapes, end = (str(tuple(x.shape)) for x in operands.values())
        _shared.fail(
            op,
            f"leading dimensions of {', '.join(names)} and {last} must broadcast, "
            f"got {', '.join(shapes)} and {end}",
        )


def vandermonde_reference(
    v: Tensor, log_x: Tensor, L: int, *, conjugate_pairs: bool = True
) -> Tensor:
    """The definition of :func:`vandermonde` in plain torch: ``N x L`` memory, differentiable."""
    out = (v.unsqueeze(-1) * _powers(log_x, L)).sum(-2)  # (..., L)
    return 2 * out.real if conjugate_pairs else out


def vandermonde_transpose_reference(u: Tensor, v: Tensor, log_x: Tensor, L: int) -> Tensor:
    """The definition of :func:`vandermonde_transpose` in plain torch: ``N x L`` memory,
    differentiable."""
    return v * (u.unsqueeze(-2) * _powers(log_x, L)).sum(-1)


def _powers(log_x: Tensor, L: int) -> Tensor:
    """``exp(log_x l)``, ``(..., N, L)``."""
    l = torch.arange(L, device=log_x.device)
    return torch.exp(log_x.unsqueeze(-1) * l)

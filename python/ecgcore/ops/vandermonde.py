# SPDX-License-Identifier: MIT
"""Sums of powers, S4D's kernel, and their transpose, which runs a state through a signal."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ecgcore import _backend
from ecgcore.ops import _keops, _shared


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
    batch = _broadcast(op, v=v, log_x=log_x)
    _shared.check_length(op, L)
    if _backend.current_backend() == "reference":
        return vandermonde_reference(v, log_x, L, conjugate_pairs=conjugate_pairs)
    if _backend.current_backend() == "keops":
        sums = _keops.vandermonde(v, log_x, L)
        return 2 * sums.real if conjugate_pairs else sums
    rows = _rows(batch, log_x)
    out = _op(_heads(v, batch, rows), _rows_of(log_x, rows), L, conjugate_pairs)
    return out.reshape(*batch, L)


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
    batch = _broadcast(op, u=u, v=v, log_x=log_x)
    if _backend.current_backend() == "reference":
        return vandermonde_transpose_reference(u, v, log_x, L)
    if _backend.current_backend() == "keops":
        return _keops.vandermonde_transpose(u, v, log_x, L)
    rows = _rows(batch, log_x)
    out = _transpose(_heads(u, batch, rows), _heads(v, batch, rows), _rows_of(log_x, rows), L)
    return out.reshape(*batch, v.shape[-1])


def _modes(op: str, v: Tensor, log_x: Tensor) -> None:
    if v.dim() < 1 or log_x.dim() < 1 or v.shape[-1] != log_x.shape[-1] or v.shape[-1] < 1:
        _shared.fail(
            op,
            "v and log_x must have shape (..., N) with the same N >= 1, "
            f"got {tuple(v.shape)} and {tuple(log_x.shape)}",
        )


def _broadcast(op: str, **operands: Tensor) -> torch.Size:
    """The common leading shape of the operands."""
    shapes = [x.shape[:-1] for x in operands.values()]
    if all(shape == shapes[0] for shape in shapes):  # broadcast_shapes takes 15 us to say so
        return shapes[0]
    try:
        return torch.broadcast_shapes(*shapes)
    except RuntimeError:
        *names, last = operands
        *given, end = (str(tuple(x.shape)) for x in operands.values())
        _shared.fail(
            op,
            f"leading dimensions of {', '.join(names)} and {last} must broadcast, "
            f"got {', '.join(given)} and {end}",
        )


def _rows(batch: torch.Size, log_x: Tensor) -> torch.Size:
    """The last axes of ``batch`` that ``log_x`` has; the axes before them share its powers."""
    own = log_x.shape[:-1]
    return own if batch[len(batch) - len(own) :] == own else batch


def _rows_of(log_x: Tensor, rows: torch.Size) -> Tensor:
    """``(rows, N)``"""
    return _shared.dense(log_x.expand(*rows, -1)).reshape(rows.numel(), log_x.shape[-1])


def _heads(value: Tensor, batch: torch.Size, rows: torch.Size) -> Tensor:
    """``(heads, rows, N or L)``"""
    heads = batch[: len(batch) - len(rows)].numel()
    return _shared.dense(value.expand(*batch, -1)).reshape(heads, rows.numel(), value.shape[-1])


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


@torch.library.register_fake("ecgcore::vandermonde")
def _fake(v: Tensor, log_x: Tensor, L: int, conjugate_pairs: bool) -> Tensor:
    dtype = _shared.REAL_OF[v.dtype] if conjugate_pairs else v.dtype
    return v.new_empty((v.shape[0], v.shape[1], L), dtype=dtype)


@torch.library.register_fake("ecgcore::vandermonde_backward")
def _fake_backward(
    grad: Tensor, v: Tensor, log_x: Tensor, L: int, conjugate_pairs: bool, wanted: list[bool]
) -> tuple[Tensor, ...]:
    return _shared.fake_gradients((v, log_x), wanted)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    v, log_x, ctx.L, ctx.conjugate_pairs = inputs
    ctx.save_for_backward(v, log_x)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    wanted = list(ctx.needs_input_grad[:2])
    grads = _backward_op(
        _shared.dense(grad), *ctx.saved_tensors, ctx.L, ctx.conjugate_pairs, wanted
    )
    return *_shared.wanted_gradients(grads, wanted), None, None


@torch.library.register_fake("ecgcore::vandermonde_transpose")
def _fake_transpose(u: Tensor, v: Tensor, log_x: Tensor, L: int) -> Tensor:
    return torch.empty_like(v)


@torch.library.register_fake("ecgcore::vandermonde_transpose_backward")
def _fake_transpose_backward(
    grad: Tensor, u: Tensor, v: Tensor, log_x: Tensor, L: int, wanted: list[bool]
) -> tuple[Tensor, ...]:
    return _shared.fake_gradients((u, v, log_x), wanted)


def _setup_transpose(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *operands, ctx.L = inputs
    ctx.save_for_backward(*operands)


def _transpose_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    wanted = list(ctx.needs_input_grad[:3])
    grads = _transpose_backward_op(_shared.dense(grad), *ctx.saved_tensors, ctx.L, wanted)
    return *_shared.wanted_gradients(grads, wanted), None


_op = _shared.register_autograd("vandermonde", _backward, _setup_context)
_backward_op = _shared.refuse_double_backward("vandermonde")
_transpose = _shared.register_autograd(
    "vandermonde_transpose", _transpose_backward, _setup_transpose
)
_transpose_backward_op = _shared.refuse_double_backward("vandermonde_transpose")

"""The Cauchy and Vandermonde functions of state-spaces/s4, under the names its users import.

Same names and calling conventions, on the ops of ecgcore: any device, any number of modes (the CUDA
extension wants a power of two), float32 and float64, gradients of ``z`` too. Precisions that differ
within a call are raised to the widest. :func:`ecgcore.compat.install` makes all this importable as
``structured_kernels``, ``extensions.kernels.cauchy`` and so on.

The pairs ``..._fwd`` and ``..._bwd`` stand for the raw functions of the extension, which an
``autograd.Function`` calls: the first are not differentiated by torch, the second take the gradient
of the output and return those of the arguments, in torch's convention for complex numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ecgcore import ops

__all__ = [
    "cauchy_conj",
    "cauchy_mult",
    "cauchy_mult_bwd",
    "cauchy_mult_fwd",
    "cauchy_mult_sym_bwd",
    "cauchy_mult_sym_fwd",
    "log_vandermonde",
    "log_vandermonde_cuda",
    "log_vandermonde_transpose",
    "vand_log_mult_sym_bwd",
    "vand_log_mult_sym_fwd",
]


def cauchy_mult(v: Tensor, z: Tensor, w: Tensor, symmetric: bool = True) -> Tensor:
    """``sum_n v_n / (z_l - w_n)``, with ``symmetric`` over conjugate pairs.

    Args:
        v: ``(..., N)`` complex.
        z: ``(L,)`` complex; further axes of size 1 in front are dropped.
        w: ``(..., N)`` complex; leading axes broadcast with those of ``v``.
        symmetric: the ``N`` modes are one of each conjugate pair, and both are summed.

    Returns:
        ``(..., L)``, complex. Differentiable in all three.
    """
    v, z, w = _promoted(v, z, w)
    if z.dim() != 1 and z.numel() == z.shape[-1:].numel():
        z = z.reshape(-1)
    return ops.cauchy(v, z, w, conjugate_pairs=symmetric)


def cauchy_conj(v: Tensor, z: Tensor, w: Tensor) -> Tensor:
    """``cauchy_mult(v, z, w, symmetric=True)``: the name of the KeOps version."""
    return cauchy_mult(v, z, w)


def log_vandermonde(v: Tensor, x: Tensor, L: int, conj: bool = True) -> Tensor:
    """``2 Re sum_n v_n exp(x_n l)``, ``l = 0 .. L-1``; without ``conj`` the complex sum itself.

    Args:
        v, x: ``(..., N)`` complex, leading axes broadcast.

    Returns:
        ``(..., L)``, real, or complex without ``conj``.
    """
    v, x = _promoted(v, x)
    return ops.vandermonde(v, x, L, conjugate_pairs=conj)


def log_vandermonde_cuda(v: Tensor, x: Tensor, L: int) -> Tensor:
    """:func:`log_vandermonde` under the name of the CUDA version; runs on any device."""
    return log_vandermonde(v, x, L)


def log_vandermonde_transpose(u: Tensor, v: Tensor, x: Tensor, L: int) -> Tensor:
    """``v_n sum_l u_l exp(x_n l)``: ``u (..., L)`` real or complex, ``v``, ``x`` ``(..., N)``."""
    if u.is_complex():
        parts = (log_vandermonde_transpose(part, v, x, L) for part in (u.real, u.imag))
        real, imaginary = parts
        return real + 1j * imaginary
    v, x = _promoted(v, x, of=u)
    return ops.vandermonde_transpose(u.to(v.dtype.to_real()), v, x, L)


def cauchy_mult_fwd(v: Tensor, z: Tensor, w: Tensor) -> Tensor:
    """The plain sum of rows, ``(rows, N), (L,), (rows, N) -> (rows, L)``."""
    return _forward("cauchy_mult_fwd", _plain(z), v, w)


def cauchy_mult_bwd(v: Tensor, z: Tensor, w: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients ``dv, dw (rows, N)`` of :func:`cauchy_mult_fwd` for ``dout (rows, L)``."""
    return _backward("cauchy_mult_bwd", _plain(z), v, w, dout)


def cauchy_mult_sym_fwd(v: Tensor, z: Tensor, w: Tensor) -> Tensor:
    """The sum of rows over conjugate pairs, ``(rows, N), (L,), (rows, N) -> (rows, L)``."""
    return _forward("cauchy_mult_sym_fwd", _symmetric(z), v, w)


def cauchy_mult_sym_bwd(v: Tensor, z: Tensor, w: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients ``dv, dw (rows, N)`` of :func:`cauchy_mult_sym_fwd` for ``dout (rows, L)``."""
    return _backward("cauchy_mult_sym_bwd", _symmetric(z), v, w, dout)


def vand_log_mult_sym_fwd(v: Tensor, x: Tensor, L: int) -> Tensor:
    """:func:`log_vandermonde` of rows, ``(rows, N) -> (rows, L)`` real."""
    return _forward("vand_log_mult_sym_fwd", lambda v, x: log_vandermonde(v, x, L), v, x)


def vand_log_mult_sym_bwd(v: Tensor, x: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients ``dv, dx (rows, N)`` of :func:`vand_log_mult_sym_fwd` for ``dout (rows, L)``."""
    L = dout.shape[-1]
    return _backward("vand_log_mult_sym_bwd", lambda v, x: log_vandermonde(v, x, L), v, x, dout)


_Rows = Callable[[Tensor, Tensor], Tensor]


def _plain(z: Tensor) -> _Rows:
    return lambda v, w: cauchy_mult(v, z, w, symmetric=False)


def _symmetric(z: Tensor) -> _Rows:
    return lambda v, w: cauchy_mult(v, z, w, symmetric=True)


def _check_rows(name: str, first: Tensor, second: Tensor) -> None:
    if first.dim() != 2 or first.shape != second.shape:
        raise ValueError(
            f"{name}: both operands must have the same shape (rows, N), "
            f"got {tuple(first.shape)} and {tuple(second.shape)}"
        )


def _forward(name: str, function: _Rows, first: Tensor, second: Tensor) -> Tensor:
    _check_rows(name, first, second)
    with torch.no_grad():
        return function(first, second)


def _backward(
    name: str, function: _Rows, first: Tensor, second: Tensor, dout: Tensor
) -> tuple[Tensor, Tensor]:
    _check_rows(name, first, second)
    a, b = (x.detach().requires_grad_() for x in (first, second))
    with torch.enable_grad():
        out = function(a, b)
    if dout.shape != out.shape:
        raise ValueError(
            f"{name}: dout must have shape {tuple(out.shape)}, got {tuple(dout.shape)}"
        )
    da, db = torch.autograd.grad(out, (a, b), dout.to(out.dtype))
    return da, db


def _promoted(*values: Tensor, of: Tensor | None = None) -> tuple[Tensor, ...]:
    """The values, complex, in the widest precision among them (and that ``of`` another)."""
    wide = values[0].dtype
    for x in (*values, *([] if of is None else [of])):
        wide = torch.promote_types(wide, x.dtype)
    wide = wide if wide.is_complex else torch.promote_types(wide, torch.complex64)
    return tuple(x.to(wide) for x in values)

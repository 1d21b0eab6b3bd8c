"""The sums over modes on PyKeOps: no ``N x L`` memory, CPU or GPU, compiled when first used.

There are two kinds of sum, and every derivative of either is a sum of its own kind, once nodes and
modes have changed places. So KeOps compiles few formulas, instead of long ones that it would derive
by itself, and any order of derivative comes with them.

**Quotients** of points of the projective line, ``r_i = sum_j x_j / (d_i t_j - s_i w_j)^p``. With
``s = t = 1`` it is the Cauchy sum of order ``p`` at the nodes ``d``; with ``s = 1 + omega``,
``d = 2 (1 - omega)`` it is the sum of ``nplr_spectrum``, which has no pole at Nyquist. The
denominator changes only its sign when nodes and poles change places.

Conjugate partners are further modes, ``x`` and ``w`` followed by their conjugates. Over the pair's
common denominator, as it is often written for KeOps, ``|(z - w)(z - conj w)|^2`` grows as
``|z|^4``, its derivative holds the square of that, and float32 overflows at the node next to
Nyquist, where ``|z|`` is 1e7. One quotient for each partner stays at ``|z|^2``, and its derivative
is formed from the quotient, not from the denominator: finite for ``|z|`` up to 1e18.

**Powers**, ``r_i = sum_j x_j exp(a_i b_j + e_i + f_j)``: Vandermonde sums, ``a`` the times and
``b`` the logarithms of the bases, or the other way round for the transpose. Always in float64: in
float32 the angle ``a b`` alone would lose ``1e-7 |a b|``.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ecgcore.ops import _shared

_compiled: set[tuple[str, torch.dtype, str]] = set()


def cauchy(v: Tensor, z: Tensor, w: Tensor, conjugate_pairs: bool) -> Tensor:
    """``sum_n v_n / (z_l - w_n)``, over conjugate pairs if so asked: ``(..., L)``."""
    if conjugate_pairs:
        v, w = (torch.cat([x, x.conj()], -1) for x in (v, w))
    return _sums(v, z, torch.ones_like(z), w, torch.ones_like(w))


def sum_over_modes(xy: Tensor, s: Tensor, d: Tensor, A: Tensor, dt: Tensor) -> Tensor:
    """``dt sum_n xy_n / (d - s dt A_n)``, conjugate partners too: ``(X, Y, H, N)`` to ``(.., L)``.

    As ``sum_n xy_n / (d / dt - s A_n)``: where dt stands twice, the two halves of its gradient
    cancel, at DC all of them.
    """
    xy, A = (torch.cat([x, x.conj()], -1) for x in (xy, A))
    return _sums(xy, d / dt[:, None], s, A, torch.ones_like(A))


def vandermonde(v: Tensor, log_x: Tensor, L: int) -> Tensor:
    """``sum_n v_n exp(log_x_n l)``: ``(..., N)`` to ``(..., L)``, complex."""
    return powers(v.to(torch.complex128), log_x.to(torch.complex128), L).to(v.dtype)


def vandermonde_transpose(u: Tensor, v: Tensor, log_x: Tensor, L: int) -> Tensor:
    """``v_n sum_l u_l exp(log_x_n l)``: ``(..., N)``, complex."""
    signal, modes = (x.to(torch.complex128) for x in (u, log_x))
    times = _times(L, modes)
    sums = _powers(signal, modes, torch.zeros_like(modes), times, torch.zeros_like(times))
    return (v * sums).to(v.dtype)


def powers(v: Tensor, log_x: Tensor, L: int, shift: Tensor | None = None) -> Tensor:
    """``sum_n v_n exp(log_x_n l - shift_n)``, ``(..., N)`` complex128 to ``(..., L)``.

    The shift is a constant for the derivative.
    """
    times = _times(L, log_x)
    shift = torch.zeros_like(log_x) if shift is None else shift.detach()
    return _powers(v, times, torch.zeros_like(times), log_x, -shift)


def _times(L: int, like: Tensor) -> Tensor:
    return torch.arange(L, device=like.device).to(like.dtype)


@torch.compiler.disable
def _sums(x: Tensor, d: Tensor, s: Tensor, w: Tensor, t: Tensor) -> Tensor:
    r: Tensor = _Quotients.apply(x, d, s, w, t, 1)
    return r


@torch.compiler.disable
def _powers(x: Tensor, a: Tensor, e: Tensor, b: Tensor, f: Tensor) -> Tensor:
    r: Tensor = _Powers.apply(x, a, e, b, f)
    return r


class _Quotients(torch.autograd.Function):
    """``sum_j x_j / (d_i t_j - s_i w_j)^p``, differentiable in x, d and w, any number of times."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, d: Tensor, s: Tensor, w: Tensor, t: Tensor, p: int) -> Tensor:
        ctx.save_for_backward(x, d, s, w, t)
        ctx.p = p
        return _reduce(_quotient(p), "xj di si wj tj", x, d, s, w, t)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, d, s, w, t = ctx.saved_tensors
        p, g = ctx.p, grad.conj()
        for_x, for_d, _, for_w, _, _ = ctx.needs_input_grad
        sign = (-1) ** p  # of the denominator, nodes and poles having changed places
        dx = sign * _Quotients.apply(g, w, t, d, s, p) if for_x else None
        dd = -p * g * _Quotients.apply(x * t, d, s, w, t, p + 1) if for_d else None
        dw = -sign * p * x * _Quotients.apply(g * s, w, t, d, s, p + 1) if for_w else None
        return _conjugate(dx, x), _conjugate(dd, d), None, _conjugate(dw, w), None, None


class _Powers(torch.autograd.Function):
    """``sum_j x_j exp(a_i b_j + e_i + f_j)``, differentiable in x, a and b, any number of times."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, e: Tensor, b: Tensor, f: Tensor) -> Tensor:
        ctx.save_for_backward(x, a, e, b, f)
        formula = "ComplexMult(x, ComplexExp(ComplexMult(a, b) + e + f))"
        return _reduce(formula, "xj ai ei bj fj", x, a, e, b, f)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, a, e, b, f = ctx.saved_tensors
        g = grad.conj()
        for_x, for_a, _, for_b, _ = ctx.needs_input_grad
        dx = _Powers.apply(g, b, f, a, e) if for_x else None
        da = g * _Powers.apply(x * b, a, e, b, f) if for_a else None
        db = x * _Powers.apply(g * a, b, f, a, e) if for_b else None
        return _conjugate(dx, x), _conjugate(da, a), None, _conjugate(db, b), None


def _conjugate(derivative: Tensor | None, of: Tensor) -> Tensor | None:
    """A complex derivative in torch's convention, summed over what was broadcast."""
    return None if derivative is None else derivative.conj().sum_to_size(of.shape)


@cache
def _quotient(p: int) -> str:
    """KeOps' words for ``x / (d t - s w)^p``."""
    denominator = "(ComplexMult(d, t) - ComplexMult(s, w))"
    inverse = f"(Conj({denominator}) / ComplexSquareAbs({denominator}))"
    formula = "x"
    for _ in range(p):
        formula = f"ComplexMult({formula}, {inverse})"
    return formula


def _reduce(formula: str, names: str, *values: Tensor) -> Tensor:
    """Sum of a complex formula over the axis j, ``(..., I)``.

    Args:
        names: of the values in the formula, each with its axis: ``"xj di"``.
        values: complex, ``(..., I)`` or ``(..., J)``; leading dimensions broadcast.
    """
    batch = torch.broadcast_shapes(*(x.shape[:-1] for x in values))
    I = values[[name[1] for name in names.split()].index("i")].shape[-1]
    out = values[0].new_empty((*batch, I))
    if out.numel() == 0:
        return out
    # KeOps reads (..., I or J, 2), real and contiguous, with the same number of leading dimensions.
    # At least one: it compiles again for none.
    dims = max(len(batch), 1) + 1
    pairs = [
        torch.view_as_real(_shared.dense(x).reshape((1,) * (dims - x.dim()) + x.shape))
        for x in values
    ]
    r = _call(formula, names, pairs)
    return torch.view_as_complex(r.reshape(*batch, I, 2))


def _call(formula: str, names: str, pairs: list[Tensor]) -> Tensor:
    device, dtype = pairs[0].device, pairs[0].dtype
    key = (formula, dtype, device.type)
    reduction = _reduction(formula, names)
    # KeOps' own choice of where to run sends tensors on the CPU to a GPU if it sees one.
    backend = "CPU" if device.type == "cpu" else "GPU"
    if key in _compiled:
        r: Tensor = reduction(*pairs, backend=backend)
        return r
    said = io.StringIO()  # KeOps reports on its progress, and on the compiler's complaints
    try:
        with contextlib.redirect_stdout(said):
            r = reduction(*pairs, backend=backend)
    except Exception as error:
        raise RuntimeError(
            f"ecgcore.backend: PyKeOps could not compile or run its formula on {device}: {error}; "
            f"it said: {said.getvalue().strip() or 'nothing'}"
        ) from error
    _compiled.add(key)
    return r


@cache
def _reduction(formula: str, names: str) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):  # "CUDA libraries not found"
        genred = importlib.import_module("pykeops.torch").Genred
    variables = [f"{name[0]} = V{name[1]}(2)" for name in names.split()]
    # Compensated, since one long row of float32 terms loses a digit, and the gradient of dt, in
    # which such sums cancel, loses three.
    return genred(
        formula,
        variables,
        reduction_op="Sum",
        axis=1,
        sum_scheme="kahan_scheme",
        use_fast_math=False,
    )

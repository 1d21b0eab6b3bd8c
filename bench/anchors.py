"""What ecgcore is measured against: the same functions as others write them today, with right
numbers.

``naive``: broadcasting torch, in the order of the S4 reference code but with the conjugate half
that its CPU fallback forgets. ``keops``: the same with the Cauchy sums by PyKeOps, which is what
the reference runs when it can. Both take the nodes of an S4 checkpoint (``omega`` rounded to
complex64), since the textbook form they follow has a pole at the exact Nyquist node.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

Sum = Callable[[Tensor, Tensor, Tensor], Tensor]
Powers = Callable[[Tensor, Tensor, int], Tensor]


def naive_cauchy(v: Tensor, z: Tensor, w: Tensor) -> Tensor:
    """``sum_n v/(z - w) + conj(v)/(z - conj(w))``: ``(..., N)``, ``(L,)``, ``(..., N)`` to ``(...,
    L)``."""
    v, w = v.unsqueeze(-1), w.unsqueeze(-1)
    return (v / (z - w)).sum(-2) + (v.conj() / (z - w.conj())).sum(-2)


@cache
def _keops_reduction() -> Any:
    import pykeops
    from pykeops.torch import Genred

    pykeops.set_verbose(False)
    # Both halves over one denominator: 2 [ Re(v) z - Re(v conj(w)) ] / [ (z - w) (z - conj(w)) ].
    numerator = "ComplexRealScal(ComplexReal(v), z) - Real2Complex((v|w))"
    return Genred(
        f"ComplexDivide({numerator}, ComplexMult(z - w, z - Conj(w)))",
        ["v = Vj(2)", "z = Vi(2)", "w = Vj(2)"],
        reduction_op="Sum",
        axis=1,
    )


def _keops_rows(*values: Tensor) -> tuple[torch.Size, list[Tensor]]:
    """The common leading shape, and the values as KeOps reads them: ``(rows, N, 2)``, real."""
    values = tuple(torch.broadcast_tensors(*values))
    rows = [t.resolve_conj().reshape(-1, t.shape[-1]).contiguous() for t in values]
    return values[0].shape[:-1], [torch.view_as_real(t) for t in rows]


def keops_cauchy(v: Tensor, z: Tensor, w: Tensor) -> Tensor:
    """:func:`naive_cauchy` without its ``N x L`` memory, by PyKeOps."""
    rows, pairs = _keops_rows(v, w)
    nodes = torch.view_as_real(z.resolve_conj().contiguous())[None]
    sums = 2 * _keops_reduction()(pairs[0], nodes, pairs[1])
    return torch.view_as_complex(sums.contiguous()).reshape(*rows, len(z))


def nplr_kernel(
    A: Tensor, B: Tensor, C: Tensor, P: Tensor, dt: Tensor, L: int, *, omega: Tensor, cauchy: Sum
) -> Tensor:
    """The rank-1 S4 kernel as the references compute it: ``(S + 1)(C + 1)`` Cauchy sums, then
    Woodbury."""
    z = 2 * (1 - omega) / (1 + omega)
    left, right = torch.cat([B, P]), torch.cat([C, P.conj()])
    r = cauchy(left[:, None] * right[None], z, A * dt[:, None]) * dt[:, None]
    corrected = r[:-1, :-1] - r[:-1, -1:] * r[-1:, :-1] / (1 + r[-1:, -1:])
    return torch.fft.irfft(corrected * 2 / (1 + omega), n=L)


def naive_vandermonde(v: Tensor, log_x: Tensor, L: int) -> Tensor:
    """``2 Re sum_n v exp(log_x l)``: ``(..., N)``, ``(..., N)`` to ``(..., L)``."""
    powers = torch.exp(log_x.unsqueeze(-1) * torch.arange(L, device=log_x.device))
    return 2 * (v.unsqueeze(-2) @ powers).squeeze(-2).real


@cache
def _keops_powers() -> Any:
    import pykeops
    from pykeops.torch import Genred

    pykeops.set_verbose(False)
    return Genred(
        "ComplexReal(ComplexMult(v, ComplexExp(ComplexMult(x, l))))",
        ["v = Vj(2)", "x = Vj(2)", "l = Vi(2)"],
        reduction_op="Sum",
        axis=1,
    )


def keops_vandermonde(v: Tensor, log_x: Tensor, L: int) -> Tensor:
    """:func:`naive_vandermonde` without its ``N x L`` memory, by PyKeOps."""
    rows, pairs = _keops_rows(v, log_x)
    steps = torch.arange(L, device=v.device).to(v.dtype)
    sums = _keops_powers()(*pairs, torch.view_as_real(steps)[None])
    return 2 * sums.reshape(*rows, L)


def diag_kernel(A: Tensor, B: Tensor, C: Tensor, dt: Tensor, L: int, *, powers: Powers) -> Tensor:
    """The S4D kernel, held by its zero order."""
    d = dt[:, None] * A
    return powers(B[:, None] * C * (torch.exp(d) - 1) / A, d, L)


def fft_conv(u: Tensor, spectrum: Tensor, D: Tensor, *, activation: str | None) -> Tensor:
    """The long convolution by torch.fft, with skip and activation."""
    n = 2 * (spectrum.shape[-1] - 1)
    y = torch.fft.irfft(torch.fft.rfft(u, n)[:, None] * spectrum, n)[..., : u.shape[-1]]
    y = y + D[..., None] * u[:, None]
    return torch.nn.functional.gelu(y) if activation == "gelu" else y


def copied_attention(q: Tensor, k: Tensor, v: Tensor, block_length: int) -> Tensor:
    """Three-block attention as the SPADE layers of DSAT-ECG's reference compute it: keys and values
    in three copies beside each other, all scores in memory, their softmax in float32."""
    T, L = block_length, q.shape[2]
    q, k, v = (
        torch.nn.functional.pad(x, (0, 0, 0, -L % T)).unflatten(2, (-1, T))
        for x in (q * q.shape[-1] ** -0.5, k, v)
    )

    def neighbours(x: Tensor) -> Tensor:
        x = torch.nn.functional.pad(x, (0, 0, 0, 0, 1, 1))
        return torch.cat([x[:, :, :-2], x[:, :, 1:-1], x[:, :, 2:]], 3)

    weights = torch.softmax((q @ neighbours(k).mT).float(), -1).to(q.dtype)
    return (weights @ neighbours(v)).flatten(2, 3)[:, :, :L]


def overlapping_attention(q: Tensor, k: Tensor, v: Tensor, block_length: int) -> Tensor:
    """The same by torch's fused attention, on overlapping views of padded keys and values."""
    T, (B, heads, L, d) = block_length, q.shape
    nb = -(-L // T)
    blocks = torch.nn.functional.pad(q, (0, 0, 0, nb * T - L)).reshape(B * heads, nb, T, d)

    def neighbours(x: Tensor) -> Tensor:
        x = torch.nn.functional.pad(x, (0, 0, T, (nb + 1) * T - L))
        return x.reshape(B * heads, (nb + 2) * T, d).unfold(1, 3 * T, T).mT

    y = torch.nn.functional.scaled_dot_product_attention(blocks, neighbours(k), neighbours(v))
    return y.reshape(B, heads, nb * T, d)[:, :, :L]

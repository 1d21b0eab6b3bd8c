# SPDX-License-Identifier: MIT
"""A convolution of width 3 along rows of features, written where the caller wants it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ecgcore.ops import _rows, _shared
from ecgcore.ops.packed_linear import (
    PAIRS,
    check_packed,
    pack_linear,
    packed_size,
    unpacked,
    weight_dtypes,
)

# Finite points; as in cpp/include/ecgcore/math/winograd.h.
_POINTS = {False: (0.0, 0.75, -0.75, 1.5, -1.5), True: (0.0, 1.0, -1.0)}


def pack_conv(weight: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    r"""The weight of a convolution of width 3 as :func:`packed_conv` reads it.

    Seen as a polynomial :math:`g_0 + g_1 p + g_2 p^2`, its values at a few points, divided by
    :math:`\prod_{q \ne p} (p - q)` over the other finite points, and :math:`g_2`, that at infinity;
    each laid out by :func:`pack_linear`. Computed in float64. The finite points are 0, ±3/4 and
    ±3/2, in bfloat16 0 and ±1.

    Args:
        weight: ``(N, C, 3)``, float32, float64 or bfloat16, as of ``torch.nn.Conv1d``.
        dtype: of the values, one of these three; ``None``: that of the weight.

    Returns:
        A tensor with one axis, without a gradient, of that dtype; of bfloat16 pairs along ``C``, as
        int32.

    Raises:
        TypeError: for an argument that is no tensor.
        ValueError: for a wrong dtype or shape.
    """
    op = "pack_conv"
    kinds = (torch.float32, torch.float64, torch.bfloat16)
    _shared.check_tensor(op, "weight", weight)
    _shared.check_dtype(op, "weight", weight, *kinds)
    _shared.check_shape(op, "weight", weight, "(N, C, 3)", (None, None, 3))
    if dtype not in (None, *kinds):
        kind = str(dtype).removeprefix("torch.")
        _shared.fail(op, f"dtype must be float32 or float64 or bfloat16, got {kind}")
    dtype = dtype or weight.dtype
    g = weight.detach().double().unbind(-1)
    points = _POINTS[dtype == torch.bfloat16]
    values = [
        (g[0] + p * g[1] + p**2 * g[2]) / math.prod(p - q for q in points if q != p) for p in points
    ]
    return torch.cat([pack_linear(value.to(dtype)) for value in (*values, g[2])])


def packed_conv(x: Tensor, packed: Tensor, out: Tensor, *, bias: Tensor | None = None) -> Tensor:
    r"""A convolution of width 3 along the rows, into ``out``. On the CPU only.

    .. math:: o_{b,l,n} = \sum_{c,j} x_{b,l+j,c}\, W_{n,c,j} + c_n, \qquad j = 0, 1, 2

    as ``torch.nn.functional.conv1d`` has it, on rows of features. By Winograd's minimal filtering:
    four neighbouring outputs from six products of matrices instead of twelve, in bfloat16 two from
    four instead of six.

    Args:
        x: ``(B, L + 2, C)``, float32 or float64, at any strides; copied first if the last axis is
            not dense. For outputs as long as a signal it has a row of zeros before and behind it.
        packed: :func:`pack_conv` of ``W (N, C, 3)``, of the dtype of ``x``, or of bfloat16 for
            float32: then what is multiplied is rounded to bfloat16, and the sums are float32.
        out: ``(B, L, N)``, overwritten; the last axis dense, the others at any stride, apart from
            ``x``.
        bias: ``c``, ``(N,)``.

    Returns:
        ``out``.

    Each number is a sum in an order of its own: the same bits in any batch and for any number of
    threads. Errors of float32 are about those of the plain sum where neighbouring rows are alike,
    and twice those where they have nothing in common. A number that is not finite reaches the other
    outputs of its group of four. No gradient.

    Source: Winograd 1980, "Arithmetic Complexity of Computations"; Lavin and Gray 2016, "Fast
    Algorithms for Convolutional Neural Networks".

    Raises:
        TypeError: for arguments that are not tensors.
        ValueError: for wrong dtypes, shapes or devices.
        RuntimeError: where a gradient would be needed, and for an ``out`` whose last axis is not
            dense or that overlaps itself or ``x``.
    """
    if not _fit(x, packed, out, bias) or x.is_cuda:
        _complain(x, packed, out, bias)
    _rows.refuse_gradients("packed_conv", x, packed, out, bias)
    torch.ops.ecgcore.packed_conv(_rows.rows(x), packed.contiguous(), _rows.dense(bias), out)
    _rows.changed(out)
    return out


def packed_conv_reference(
    x: Tensor, packed: Tensor, out: Tensor, *, bias: Tensor | None = None
) -> Tensor:
    """The definition of :func:`packed_conv` in plain torch, with weights taken back from their
    values at the points; rounding to bfloat16 happens at the points."""
    rounded = packed.dtype == PAIRS
    points = _POINTS[rounded]
    count = len(points) + 1
    m = count - 2
    N, C = out.shape[2], x.shape[2]
    U = torch.stack([unpacked(part, N, C).to(x.dtype) for part in packed.chunk(count)])
    # B^T: the coefficients of prod (X - q) over the other finite points, and over all.
    rows = [_coefficients([q for q in points if q != p]) for p in points] + [_coefficients(points)]
    B = x.new_tensor([row + [0.0] * (count - len(row)) for row in rows])
    # A^T: powers of the points, and infinity for the last output.
    A = x.new_tensor([[*(p**i for p in points), float(i == m - 1)] for i in range(m)])
    L = out.shape[1]
    padded = F.pad(x, (0, 0, 0, -L % m))
    d = padded.unfold(1, count, m)  # (B, tiles, C, count)
    t = d @ B.mT
    t = t.bfloat16().to(x.dtype) if rounded else t
    y = torch.einsum("btcp,pnc,ip->btin", t, U, A).flatten(1, 2)[:, :L]
    return out.copy_(y if bias is None else y + bias)


def _coefficients(roots: Sequence[float]) -> list[float]:
    """Of the polynomial with these roots and leading coefficient 1, the constant one first."""
    found = [1.0]
    for root in roots:
        found = [up - root * here for up, here in zip([0.0, *found], [*found, 0.0], strict=True)]
    return found


def _size(packed: Tensor, N: int, C: int) -> int:
    return (len(_POINTS[packed.dtype == PAIRS]) + 1) * packed_size(packed, N, C)


def _fit(x: Tensor, packed: Tensor, out: Tensor, bias: Tensor | None) -> bool:
    try:
        (B, rows, C), N = x.shape, out.shape[2]
        return (
            x.dtype in (torch.float32, torch.float64)
            and rows >= 2
            and _rows.fits(out, x, (B, rows - 2, N))
            and packed.shape == (_size(packed, N, C),)
            and packed.dtype in weight_dtypes(x)
            and packed.device == x.device
            and _rows.fits(bias, x, (N,))
        )
    except (AttributeError, ValueError, IndexError):  # no tensor, another number of axes
        return False


def _complain(x: Tensor, packed: Tensor, out: Tensor, bias: Tensor | None) -> None:
    """Say what :func:`_fit` found."""
    op = "packed_conv"
    _rows.check_rows(op, "x", x)
    if x.is_cuda:
        _shared.fail(
            op, f"x must be on the CPU, got {x.device}: there use torch.nn.functional.conv1d"
        )
    B, rows, C = x.shape
    if rows < 2:
        _shared.fail(op, f"x must have shape (B, L + 2, C), got {tuple(x.shape)}")
    _rows.check_like(op, "out", out, x, "(B, L, N)", (B, rows - 2, None))
    N = out.shape[2]
    check_packed(op, packed, x, f"pack_conv of a weight ({N}, {C}, 3)", lambda: _size(packed, N, C))
    if bias is not None:
        _rows.check_like(op, "bias", bias, x, "(N,)", (N,))


@torch.library.register_fake("ecgcore::packed_conv")
def _fake(x: Tensor, packed: Tensor, bias: Tensor | None, out: Tensor) -> None:
    pass

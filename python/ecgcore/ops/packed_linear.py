# SPDX-License-Identifier: MIT
"""Rows of features times a packed weight, written where the caller wants them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ecgcore.ops import _rows, _shared

_PANEL = 16  # features; as in cpp/include/ecgcore/kernels/packed_linear.h
PAIRS = torch.int32
"""Two bfloat16 in one number."""


def pack_linear(weight: Tensor) -> Tensor:
    """The weight of a linear map as :func:`packed_linear` reads it.

    Panels of 16 output features, one behind the other, features fastest, zeros beyond the last: the
    same for every CPU instruction set. In bfloat16 the entries are pairs of numbers that follow
    each other along ``K``, zero beyond the last.

    Args:
        weight: ``(N, K)``, float32, float64 or bfloat16, as of ``torch.nn.Linear``. That of a
            convolution of width 3, ``(N, C, 3)``, goes as ``weight.permute(0, 2, 1).reshape(N, 3 *
            C)``.

    Returns:
        A tensor with one axis, without a gradient, of the same dtype; of bfloat16 the pairs, as
        int32.

    Raises:
        TypeError: for an argument that is no tensor.
        ValueError: for a wrong dtype or shape.
    """
    op = "pack_linear"
    _shared.check_tensor(op, "weight", weight)
    _shared.check_dtype(op, "weight", weight, torch.float32, torch.float64, torch.bfloat16)
    _shared.check_shape(op, "weight", weight, "(N, K)", (None, None))
    N, K = weight.shape
    terms = 2 if weight.dtype == torch.bfloat16 else 1
    steps = -(-K // terms)
    padded = F.pad(weight.detach(), (0, terms * steps - K, 0, -N % _PANEL))
    entries = padded.reshape(_panels(N), _PANEL, steps, terms)
    packed = entries.transpose(1, 2).reshape(-1).contiguous()
    return packed.view(PAIRS) if terms == 2 else packed


def packed_linear(
    x: Tensor,
    packed: Tensor,
    out: Tensor,
    *,
    bias: Tensor | None = None,
    shift: Tensor | None = None,
    relu: bool = False,
    accumulate: bool = False,
) -> Tensor:
    r"""A linear map of every row, into or onto ``out``. On the CPU only.

    .. math:: o_{b,l} \mathrel{(+)}= a\big(W x_{b,l} + c + s_b\big)

    Rows of ``x`` may overlap: a convolution of width 3 over rows that have a row of zeros before
    and behind them, ``(B, L + 2, C)``, is the map of ``padded.as_strided((B, L, 3 * C), (padded.
    stride(0), padded.stride(1), 1))``.

    Args:
        x: ``(B, L, K)``, float32 or float64, at any strides; copied first if the last axis is not
            dense.
        packed: :func:`pack_linear` of ``W (N, K)``, of the dtype of ``x``, or of bfloat16 for
            float32: then ``x`` is rounded to bfloat16 as well, and the sums are float32.
        out: ``(B, L, N)``, changed in place; the last axis dense, the others at any stride, apart
            from ``x``.
        bias: ``c``, ``(N,)``.
        shift: ``s``, ``(B, N)``, or ``(1, N)`` for all samples.
        relu: what ``a`` is instead of the identity.
        accumulate: add to ``out`` instead of overwriting it.

    Returns:
        ``out``.

    Each number is a sum in an order of its own: the same bits alone, in any batch, and for any
    number of threads. No gradient. Products of bfloat16 are the processor's own where it has
    AVX512_BF16, and elsewhere products of the rounded numbers in float32, at the speed of those;
    they are exact either way, so that only sums differ.

    Raises:
        TypeError: for arguments that are not tensors.
        ValueError: for wrong dtypes, shapes or devices.
        RuntimeError: where a gradient would be needed, and for an ``out`` whose last axis is not
            dense or that overlaps itself or ``x``.
    """
    if not _fit(x, packed, out, bias, shift) or x.is_cuda:
        _complain(x, packed, out, bias, shift)
    _rows.refuse_gradients("packed_linear", x, packed, out, bias, shift)
    torch.ops.ecgcore.packed_linear(
        _rows.rows(x),
        packed.contiguous(),
        _rows.dense(bias),
        _rows.dense(shift),
        out,
        relu,
        accumulate,
    )
    _rows.changed(out)
    return out


def packed_linear_reference(
    x: Tensor,
    packed: Tensor,
    out: Tensor,
    *,
    bias: Tensor | None = None,
    shift: Tensor | None = None,
    relu: bool = False,
    accumulate: bool = False,
) -> Tensor:
    """The definition of :func:`packed_linear` in plain torch."""
    weight = unpacked(packed, out.shape[2], x.shape[2])
    if weight.dtype == torch.bfloat16:
        x, weight = x.bfloat16().to(x.dtype), weight.to(x.dtype)
    y = F.linear(x, weight, bias)
    if shift is not None:
        y = y + shift.unsqueeze(1)
    if relu:
        y = F.relu(y)
    return out.add_(y) if accumulate else out.copy_(y)


def _panels(N: int) -> int:
    return -(-N // _PANEL)


def _steps(packed: Tensor, K: int) -> int:
    return -(-K // 2) if packed.dtype == PAIRS else K


def packed_size(packed: Tensor, N: int, K: int) -> int:
    """Entries of :func:`pack_linear` of a weight ``(N, K)`` in the dtype of ``packed``."""
    return _panels(N) * _PANEL * _steps(packed, K)


def unpacked(packed: Tensor, N: int, K: int) -> Tensor:
    """What :func:`pack_linear` has packed, ``(N, K)``."""
    steps, terms = _steps(packed, K), 2 if packed.dtype == PAIRS else 1
    numbers = packed.contiguous().view(torch.bfloat16) if terms == 2 else packed
    entries = numbers.reshape(_panels(N), steps, _PANEL, terms).transpose(1, 2)
    return entries.reshape(_panels(N) * _PANEL, steps * terms)[:N, :K]


def _fit(x: Tensor, packed: Tensor, out: Tensor, bias: Tensor | None, shift: Tensor | None) -> bool:
    try:
        (B, L, K), N = x.shape, out.shape[2]
        return (
            x.dtype in (torch.float32, torch.float64)
            and _rows.fits(out, x, (B, L, N))
            and packed.shape == (packed_size(packed, N, K),)
            and packed.dtype in weight_dtypes(x)
            and packed.device == x.device
            and _rows.fits(bias, x, (N,))
            and _rows.fits(shift, x, (B, N), (1, N))
        )
    except (AttributeError, ValueError, IndexError):  # no tensor, another number of axes
        return False


def weight_dtypes(x: Tensor) -> tuple[torch.dtype, ...]:
    """Of packed weights that multiply ``x``."""
    return (x.dtype, PAIRS) if x.dtype == torch.float32 else (x.dtype,)


def _complain(
    x: Tensor, packed: Tensor, out: Tensor, bias: Tensor | None, shift: Tensor | None
) -> None:
    """Say what :func:`_fit` found."""
    op = "packed_linear"
    _rows.check_rows(op, "x", x)
    if x.is_cuda:
        _shared.fail(
            op, f"x must be on the CPU, got {x.device}: there use torch.nn.functional.linear"
        )
    B, L, K = x.shape
    _rows.check_like(op, "out", out, x, "(B, L, N)", (B, L, None))
    N = out.shape[2]
    check_packed(
        op,
        packed,
        x,
        f"pack_linear of a weight ({N}, {K})",
        lambda: packed_size(packed, N, K),
    )
    if bias is not None:
        _rows.check_like(op, "bias", bias, x, "(N,)", (N,))
    if shift is not None:
        _rows.check_per_sample(op, "shift", shift, x, "(B|1, N)", B, N)


def check_packed(op: str, packed: Tensor, x: Tensor, source: str, size: Callable[[], int]) -> None:
    """Raise unless ``packed`` has the dtype, device and ``size`` of what ``source`` names."""
    _shared.check_tensor(op, "packed", packed)
    _shared.check_dtype(op, "packed", packed, *weight_dtypes(x))
    shape = (size(),)
    _shared.check_operand(
        op, "packed", packed, packed.dtype, x.device, f"of {source}, (size,)", shape
    )


@torch.library.register_fake("ecgcore::packed_linear")
def _fake(
    x: Tensor,
    packed: Tensor,
    bias: Tensor | None,
    shift: Tensor | None,
    out: Tensor,
    relu: bool,
    accumulate: bool,
) -> None:
    pass

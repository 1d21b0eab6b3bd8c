# SPDX-License-Identifier: MIT
"""Nearest upsampling followed by a convolution, without the repeated samples."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ecgcore.ops import _shared

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def upsample_conv1d(x: Tensor, weight: Tensor, bias: Tensor | None, scale: int) -> Tensor:
    r"""Repeat every sample ``scale`` times, pad with ``(k - 1) / 2`` zeros, convolve.

    .. math:: y_{b,o,t} = \mathrm{bias}_o + \sum_{i,j} w_{o,i,j}\,
        x_{b,i,\lfloor (t + j - (k - 1)/2) / \mathrm{scale} \rfloor}

    with ``x`` zero outside its ``L`` samples.

    Args:
        x: ``(B, F_in, L)``, float32, float64, bfloat16 or float16, any ``L >= 1``.
        weight: ``(F_out, F_in, k)``, dtype of ``x``, ``k`` odd.
        bias: ``(F_out,)`` or ``None``.
        scale: number of copies of each sample, at least 1.

    Returns:
        ``(B, F_out, scale * L)``.

    Differentiable any number of times in ``x``, ``weight`` and ``bias``.

    Raises:
        TypeError: for arguments that are not tensors.
        ValueError: for wrong dtypes, shapes or devices, even ``k``, and ``scale`` below 1.
    """
    _check(x, weight, bias, scale)
    return upsample_conv1d_reference(x, weight, bias, scale)


def upsample_conv1d_reference(x: Tensor, weight: Tensor, bias: Tensor | None, scale: int) -> Tensor:
    """The definition of :func:`upsample_conv1d` in plain torch."""
    repeated = x.repeat_interleave(scale, -1)
    return F.conv1d(repeated, weight, bias, padding=weight.shape[-1] // 2)


def _check(x: Tensor, weight: Tensor, bias: Tensor | None, scale: int) -> None:
    op = "upsample_conv1d"
    _shared.check_tensor(op, "x", x)
    _shared.check_tensor(op, "weight", weight)
    _shared.check_dtype(op, "x", x, *_DTYPES)
    _shared.check_shape(op, "x", x, "(B, F_in, L)", (None, None, None))
    _shared.check_length(op, x.shape[2])
    _shared.check_dtype(op, "weight", weight, x.dtype)
    _shared.check_device(op, "weight", weight, x.device)
    _shared.check_shape(op, "weight", weight, "(F_out, F_in, k)", (None, x.shape[1], None))
    if weight.shape[2] % 2 == 0:
        _shared.fail(
            op,
            f"weight must have shape (F_out, F_in, k) with k odd, got {tuple(weight.shape)}",
        )
    if bias is not None:
        _shared.check_tensor(op, "bias", bias)
        _shared.check_dtype(op, "bias", bias, x.dtype)
        _shared.check_device(op, "bias", bias, x.device)
        _shared.check_shape(op, "bias", bias, "(F_out,)", (weight.shape[0],))
    if scale < 1:
        _shared.fail(op, f"scale must be at least 1, got {scale}")

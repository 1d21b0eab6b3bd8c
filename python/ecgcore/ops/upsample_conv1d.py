# SPDX-License-Identifier: MIT
"""Nearest upsampling followed by a convolution, without the repeated samples."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ecgcore.ops import _shared

_DTYPES = (torch.float32, torch.float64)


def upsample_conv1d(x: Tensor, weight: Tensor, bias: Tensor | None, scale: int) -> Tensor:
    r"""Repeat every sample ``scale`` times, pad with ``(k - 1) / 2`` zeros, convolve.

    .. math:: y_{b,o,t} = \mathrm{bias}_o + \sum_{i,j} w_{o,i,j}\,
        x_{b,i,\lfloor (t + j - (k - 1)/2) / \mathrm{scale} \rfloor}

    with ``x`` zero outside its ``L`` samples. The repeated samples never exist: each output's taps
    that meet the same input sample are summed first, then ``scale`` short convolutions of ``x``
    itself give every ``scale``-th output each (the polyphase form; Bellanger, Bonnerot, Coudreuse
    1976, "Digital filtering by polyphase network"). For scale 5 and ``k = 25``, 7 taps instead of
    25. Made of torch's own products, so it has no kernel of its own.

    Args:
        x: ``(B, F_in, L)``, float32 or float64, any ``L >= 1``.
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
    radius = weight.shape[-1] // 2
    if scale == 1:
        return F.conv1d(F.pad(x, (radius, radius)), weight, bias)
    reach = reach_of(weight, scale, x.shape[-1])
    phases = F.conv1d(
        F.pad(
            x, (reach, reach)
        ),  # ahead of the call: oneDNN is up to 3 times slower padding itself
        phase_weights(weight, scale, reach),
        None if bias is None else bias.repeat(scale),
    )
    return phases.unflatten(1, (scale, -1)).permute(0, 2, 3, 1).flatten(2)


def reach_of(weight: Tensor, scale: int, length: int) -> int:
    """Input samples to either side that an output depends on, within ``length`` of them."""
    # Taps further out than the whole signal would meet zeros only.
    return min(-(-(weight.shape[-1] // 2) // scale), length - 1)


def phase_weights(weight: Tensor, scale: int, reach: int) -> Tensor:
    """``(scale * F_out, F_in, 2 * reach + 1)``: for each position between two input samples the
    kernel's taps that meet the same input sample, summed.

    A product with a matrix of zeros and ones: much faster in torch than slices and sums, forward
    and backward, and so small (``k`` by ``scale * taps``) that its zeros do not matter.
    """
    outputs, inputs, k = weight.shape
    tap = torch.arange(k, device=weight.device)
    phase = torch.arange(scale, device=weight.device)[:, None, None]
    sample = torch.arange(-reach, reach + 1, device=weight.device)[:, None]
    meets = torch.div(phase + tap - k // 2, scale, rounding_mode="floor") == sample
    sums = weight.reshape(-1, k) @ meets.flatten(0, 1).to(weight.dtype).t()
    return sums.view(outputs, inputs, scale, -1).permute(2, 0, 1, 3).flatten(0, 1)


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

# SPDX-License-Identifier: MIT
"""Upsampling folded into the convolution after it, against the two torch calls."""

from __future__ import annotations

import itertools

import pytest
import torch

from ecgcore import ops
from ecgcore.testing import relative_error

SIZES = list(itertools.product((1, 2, 3, 5, 7, 30), (1, 3, 5, 9, 25), (1, 2, 3, 8)))


def upsampled_then_convolved(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, scale: int
) -> torch.Tensor:
    k = weight.shape[-1]
    repeated = torch.nn.functional.interpolate(x, scale_factor=scale, mode="nearest")
    padded = torch.nn.functional.pad(repeated, ((k - 1) // 2, (k - 1) // 2))
    return torch.nn.functional.conv1d(padded, weight, bias)


@pytest.mark.one_isa
@pytest.mark.parametrize(("scale", "k", "L"), SIZES)
def test_every_scale_kernel_and_length_with_gradients(scale: int, k: int, L: int) -> None:
    x, weight, bias = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 3, L), (4, 3, k), (4,))
    )
    cotangent = torch.randn(2, 4, scale * L, dtype=torch.float64)
    found, expected = (
        (y, *torch.autograd.grad(y, (x, weight, bias), cotangent))
        for y in (
            ops.upsample_conv1d(x, weight, bias, scale),
            upsampled_then_convolved(x, weight, bias, scale),
        )
    )
    for a, b in zip(found, expected, strict=True):
        assert relative_error(a, b) < 1e-13

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


@pytest.mark.one_isa
def test_no_repeated_sample_is_ever_stored() -> None:
    """The largest tensor is the output: the upsampled input would be ten times that."""
    x, weight = torch.randn(1, 40, 200), torch.randn(4, 40, 25)
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            sizes.extend(t.numel() for t in ([out] if isinstance(out, torch.Tensor) else out))
            return out

    with Watch():
        ops.upsample_conv1d(x, weight, None, 5)
    assert max(sizes) < 40 * 200 * 5 / 2


@pytest.mark.one_isa
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.randn(3, 4)}, r"x must have shape \(B, F_in, L\), got \(3, 4\)"),
        ({"x": torch.randn(2, 3, 0)}, "L must be at least 1, got 0"),
        ({"weight": torch.randn(5, 3, 4)}, r"with k odd, got \(5, 3, 4\)"),
        ({"weight": torch.randn(5, 2, 3)}, r"weight must have shape \(F_out, F_in, k\).*\(5, 2, 3"),
        ({"bias": torch.randn(4)}, r"bias must have shape \(F_out,\) = \(5,\), got \(4,\)"),
        ({"bias": torch.randn(5).double()}, "bias must be float32, got float64"),
        ({"scale": 0}, "scale must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_name_what_was_expected(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "x": torch.randn(2, 3, 4),
        "weight": torch.randn(5, 3, 3),
        "bias": torch.randn(5),
        "scale": 2,
    }
    with pytest.raises(ValueError, match=message):
        ops.upsample_conv1d(**{**arguments, **change})  # type: ignore[arg-type]

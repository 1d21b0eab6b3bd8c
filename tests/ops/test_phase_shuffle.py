# SPDX-License-Identifier: MIT
"""Phase shuffle against what the reference systems gave, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ecgcore import ops
from support import recorded, recorded_names

WHICH = pytest.mark.parametrize("which", ["native", "reference"])


def function(which: str) -> Any:
    return (ops if which == "native" else ops.reference).phase_shuffle


@WHICH
@pytest.mark.parametrize(
    "name", recorded_names("phase_shuffle__*", exclude=("phase_shuffle__rng_draws",))
)
def test_recorded_shuffles_and_gradients(name: str, which: str) -> None:
    data = recorded(name)
    x = data["in/x"].requires_grad_()
    y = function(which)(x, data["in/k"])
    assert torch.equal(y, data["out/y"])
    (gradient,) = torch.autograd.grad(y, x, data["in/cot"])
    assert torch.equal(gradient, data["grad/in/x"])


def by_hand(x: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """Sample by sample, with torch's reflecting pad."""
    rows = []
    for row, shift in zip(x, shifts.tolist(), strict=True):
        left, right = max(shift, 0), max(-shift, 0)
        kept = row[None, :, right : row.shape[-1] - left]
        rows.append(torch.nn.functional.pad(kept, (left, right), mode="reflect")[0])
    return torch.stack(rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_the_bits_are_those_of_reflecting_pads(dtype: torch.dtype) -> None:
    for L in (5, 15, 16, 17, 61, 499, 3000):
        for n in (0, 1, 2):
            shifts = torch.randint(-n, n + 1, (6,))
            x = torch.randn(6, 7, L).to(dtype)
            assert torch.equal(ops.phase_shuffle(x, shifts), by_hand(x, shifts))


@WHICH
def test_every_shift_below_the_length(which: str) -> None:
    for L in (1, 2, 3, 8, 33):
        shifts = torch.arange(1 - L, L)
        x = torch.randn(len(shifts), 3, L, requires_grad=True)
        y = function(which)(x, shifts)
        for b, k in enumerate(shifts.tolist()):
            for i in range(L):
                j = i - k
                j = -j if j < 0 else 2 * (L - 1) - j if j > L - 1 else j
                assert torch.equal(y[b, :, i], x[b, :, j])
        dy = torch.randn_like(y)
        (gradient,) = torch.autograd.grad(y, x, dy)
        # <S x, dy> = <x, S* dy> for every x: nothing dropped and nothing counted twice.
        for _ in range(3):
            other = torch.randn_like(x, dtype=torch.float64)
            left = (function(which)(other, shifts) * dy).sum()
            torch.testing.assert_close(left, (other * gradient).sum(), rtol=1e-5, atol=1e-5)


def test_the_gradients_gradient_is_the_shuffle_again() -> None:
    x = torch.randn(5, 2, 30, requires_grad=True)
    shifts = torch.tensor([-2, -1, 0, 1, 2])
    dy = torch.randn(5, 2, 30, requires_grad=True)
    (gradient,) = torch.autograd.grad(ops.phase_shuffle(x, shifts), x, dy, create_graph=True)
    v = torch.randn(5, 2, 30)
    (second,) = torch.autograd.grad(gradient, dy, v, create_graph=True)
    assert torch.equal(second, ops.phase_shuffle(v, shifts))


@pytest.mark.parametrize("shift", [4, -4, 100, -(2**63)])
def test_a_shift_of_the_length_or_more_is_refused(shift: int) -> None:
    x = torch.randn(2, 3, 4)
    with pytest.raises(RuntimeError, match=rf"\|shifts\| must be below L = 4, got {shift}"):
        ops.phase_shuffle(x, torch.tensor([0, shift]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.randn(3, 4)}, r"x must have shape \(B, C, L\), got \(3, 4\)"),
        ({"x": torch.randn(2, 3, 0)}, "L must be at least 1, got 0"),
        ({"x": torch.zeros(2, 3, 4, dtype=torch.complex64)}, "x must be float32 or .*complex64"),
        ({"shifts": torch.zeros(3, dtype=torch.int64)}, r"shifts must have shape \(B,\) = \(2,\)"),
        ({"shifts": torch.zeros(2, dtype=torch.int32)}, "shifts must be int64, got int32"),
        (
            {"shifts": torch.zeros(2, dtype=torch.int64, device="meta")},
            "shifts must be on cpu, got meta",
        ),
    ],
)
def test_wrong_arguments_name_what_was_expected(change: dict[str, Any], message: str) -> None:
    arguments = {"x": torch.randn(2, 3, 4), "shifts": torch.tensor([0, 1])}
    with pytest.raises(ValueError, match=message):
        ops.phase_shuffle(**{**arguments, **change})


def test_shifts_that_are_no_tensor_are_a_type_error() -> None:
    with pytest.raises(TypeError, match="shifts must be a tensor, got list"):
        ops.phase_shuffle(torch.randn(2, 3, 4), [0, 1])  # type: ignore[arg-type]

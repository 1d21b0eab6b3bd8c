# SPDX-License-Identifier: MIT
"""``add_layer_norm``, beyond what every op promises (test_contract.py)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ecgcore import ops
from ecgcore.testing import relative_error


def options(B: int, features: int, **change: Any) -> dict[str, Any]:
    return {
        "weight": torch.randn(features),
        "bias": torch.randn(features),
        "shift": torch.randn(B, features),
        **change,
    }


@pytest.mark.parametrize("gate", [False, True])
def test_a_row_has_the_same_bits_alone_and_in_any_batch(gate: bool, threads: Any) -> None:
    B, L, features = 3, 200, 70
    y, residual = torch.randn(2, B, L, features)
    given = options(B, features, gate=gate)
    width = features // 2 if gate else features
    together = ops.add_layer_norm(y, torch.empty(B, L, width), residual=residual, **given)
    for count in (1, 3):
        threads(count)
        for b, begin, end in ((0, 0, 1), (1, 13, 90), (2, 0, 200)):
            rows = slice(b, b + 1), slice(begin, end)
            alone = ops.add_layer_norm(
                y[rows],
                torch.empty(1, end - begin, width),
                residual=residual[rows],
                **{**given, "shift": given["shift"][b : b + 1]},
            )
            assert torch.equal(alone, together[rows])


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("eps", [1e-5, None])
def test_out_may_be_what_is_read_row_for_row(gate: bool, eps: float | None) -> None:
    y, residual = torch.randn(2, 2, 9, 40)
    width = 20 if gate else 40
    expected = ops.add_layer_norm(
        y, torch.empty(2, 9, width), residual=residual, eps=eps, gate=gate
    )
    for name in ("y", "residual"):
        copies = {"y": y.clone(), "residual": residual.clone()}
        out = copies[name][..., :width]
        assert torch.equal(ops.add_layer_norm(**copies, out=out, eps=eps, gate=gate), expected)


def test_rows_at_any_stride_and_nothing_beside_them() -> None:
    B, L, features = 2, 11, 24
    y, residual, before = torch.randn(3, B, L, features)
    given = options(B, features, accumulate=True, scale=0.25)
    expected = ops.add_layer_norm(y, before.clone(), residual=residual, **given)
    wide = torch.full((L, B, 3, features + 5), 7.0).permute(2, 1, 0, 3)[..., 2 : 2 + features]
    for rows, value in zip(wide, (y, residual, before), strict=True):
        rows.copy_(value)
    out = ops.add_layer_norm(wide[0], wide[2], residual=wide[1], **given)
    assert out is not None
    assert torch.equal(wide[2], expected)
    assert torch.equal(wide[0], y)
    assert torch.equal(wide[1], residual)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_the_gate_keeps_its_digits_from_the_smallest_to_the_largest_arguments(
    dtype: torch.dtype,
) -> None:
    magnitudes = torch.logspace(-30, 2, 321, dtype=dtype)
    a = torch.cat([-magnitudes, magnitudes, torch.tensor([0.0, 0.6249, 0.6251], dtype=dtype)])
    b = torch.linspace(-80, 80, 33, dtype=dtype)
    grid = torch.cartesian_prod(a, b)
    y = grid.mT.reshape(1, 1, -1)
    found = ops.add_layer_norm(y, y.new_empty(1, 1, len(grid)), eps=None, gate=True).flatten()
    left, right = grid.double().unbind(-1)
    exact = torch.tanh(left) * torch.sigmoid(right)
    unit = torch.finfo(dtype).eps * exact.abs() + torch.finfo(dtype).tiny
    assert ((found.double() - exact).abs() / unit).max() < 6


def test_the_gate_saturates() -> None:
    infinite = float("inf")
    y = torch.tensor([infinite, -infinite, 2.0, 2.0, 1e4, infinite, infinite, -infinite])
    y = torch.cat([y[[0, 1, 2, 3, 4]], y[[5, 5, 5, 7, 6]]]).reshape(1, 1, 10).repeat(1, 3, 1)
    found = ops.add_layer_norm(y, torch.empty(1, 3, 5), eps=None, gate=True)
    expected = torch.tensor([1.0, -1.0, float(torch.tanh(torch.tensor(2.0))), 0.0, 1.0])
    assert relative_error(found[0, 1], expected) < 2e-7


def test_a_constant_row_gives_the_bias() -> None:
    bias = torch.randn(64)
    y = torch.full((1, 2, 64), 3.0)
    assert torch.equal(ops.add_layer_norm(y, torch.empty(1, 2, 64), bias=bias)[0, 1], bias)


@pytest.mark.one_isa
def test_nothing_in_gives_nothing() -> None:
    for shape in ((0, 3, 4), (2, 0, 4), (2, 3, 0)):
        assert ops.add_layer_norm(torch.ones(shape), torch.ones(shape)).shape == shape


@pytest.mark.one_isa
def test_autograd_learns_of_the_change_and_no_gradient_is_promised() -> None:
    y, out = torch.randn(1, 2, 4), torch.ones(1, 2, 4)
    product = torch.ones(1, 2, 4, requires_grad=True) * out
    ops.add_layer_norm(y, out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()
    with pytest.raises(RuntimeError, match=r"add_layer_norm: made for inference.*no_grad"):
        ops.add_layer_norm(y, out, weight=torch.ones(4, requires_grad=True))


def given(**change: Any) -> dict[str, Any]:
    return {"y": torch.ones(2, 3, 4), "out": torch.ones(2, 3, 4), **change}


ODD = {"y": torch.ones(2, 3, 5), "out": torch.ones(2, 3, 2), "gate": True}


@pytest.mark.one_isa
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": torch.ones(3, 4)}, r"y must have shape \(B, L, features\), got \(3, 4\)"),
        ({"y": torch.ones(2, 3, 4).half()}, "y must be float32 or float64, got float16"),
        ({"out": torch.ones(2, 3, 5)}, r"out must have shape \(B, L, F\) = \(2, 3, 4\), got"),
        ({"gate": True}, r"out must have shape \(B, L, F/2\) = \(2, 3, 2\), got \(2, 3, 4\)"),
        (ODD, r"y must have an even number of features, got \(2, 3, 5\)"),
        ({"out": torch.ones(2, 3, 4).double()}, "out must be float32, got float64"),
        ({"residual": torch.ones(2, 3)}, r"residual must have shape \(B, L, F\) = \(2, 3, 4\)"),
        ({"weight": torch.ones(3)}, r"weight must have shape \(F,\) = \(4,\), got \(3,\)"),
        ({"bias": torch.ones(4).double()}, "bias must be float32, got float64"),
        ({"shift": torch.ones(3, 4)}, r"shift must have shape \(B\|1, F\) = \(2, 4\), got"),
        ({"shift": torch.ones(2, 4, device="meta")}, "shift must be on cpu, got meta"),
        ({"weight": torch.ones(4), "eps": None}, "left out where eps is None"),
        ({"bias": torch.ones(4), "eps": None}, "left out where eps is None"),
    ],
)
def test_wrong_arguments_name_what_was_expected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ops.add_layer_norm(**given(**change))


@pytest.mark.one_isa
@pytest.mark.parametrize("name", ["y", "out", "residual", "weight", "bias", "shift"])
def test_what_is_no_tensor_is_a_type_error(name: str) -> None:
    with pytest.raises(TypeError, match=f"add_layer_norm: {name} must be a tensor, got list"):
        ops.add_layer_norm(**given(**{name: [1.0]}))


@pytest.mark.one_isa
def test_memory_that_is_shared_otherwise_than_row_for_row_is_refused() -> None:
    buffer = torch.zeros(200)
    y = buffer.as_strided((2, 3, 4), (12, 4, 1))

    def at(offset: int, *strides: int) -> Tensor:
        return buffer.as_strided((2, 3, 4), (*strides, 1), offset)

    for out in (at(1, 12, 4), at(4, 12, 4), at(0, 30, 4)):
        with pytest.raises(RuntimeError, match="out must be y itself or share no memory with it"):
            ops.add_layer_norm(y, out)
        with pytest.raises(RuntimeError, match="out must be residual itself or share no memory"):
            ops.add_layer_norm(torch.ones(2, 3, 4), out, residual=y)
    for out in (torch.ones(2, 1, 4).expand(2, 3, 4), at(100, 12, 3)):
        with pytest.raises(RuntimeError, match="out must not overlap itself"):
            ops.add_layer_norm(y, out)
    with pytest.raises(RuntimeError, match="out must have a dense last axis"):
        ops.add_layer_norm(y, torch.ones(2, 3, 8)[..., ::2])

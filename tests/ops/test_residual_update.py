# SPDX-License-Identifier: MIT
"""``residual_update``, beyond what every op promises (test_contract.py)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ecgcore import ops
from ecgcore.ops import reference


def given(**change: Any) -> dict[str, Any]:
    return {
        "rs": torch.randn(2, 3, 9),
        "x": torch.randn(2, 3, 4),
        "skip": torch.randn(2, 3, 5),
        **change,
    }


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("rows", [1, 2])
def test_the_padding_stays_and_only_the_rows_between_move_by_the_step(
    rows: int, first: bool
) -> None:
    R, S = 37, 20
    state = {
        "rs": torch.randn(2, 50, R + S),
        "x": torch.randn(2, 50, R),
        "skip": torch.randn(2, 50, S),
        "padded": torch.full((2, 52, R), 7.0),
        "step": torch.randn(rows, R),
        "first": first,
    }
    wide = {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in state.items()}
    assert ops.residual_update(**state) is None  # type: ignore[func-returns-value]
    reference.residual_update(**wide)
    for name in ("x", "skip", "padded"):
        torch.testing.assert_close(state[name].double(), wide[name], rtol=3e-7, atol=3e-7)
    assert (state["padded"][:, [0, -1]] == 7).all()
    assert torch.equal(state["padded"][:, 1:-1], state["x"] + state["step"].unsqueeze(1))


def test_all_may_be_columns_of_the_same_rows() -> None:
    expected = given()
    both = torch.cat([expected["rs"], expected["x"], expected["skip"]], -1)
    rs, x, skip = both.split([9, 4, 5], -1)
    before = rs.clone()
    ops.residual_update(rs, x, skip)
    ops.residual_update(**expected)
    assert torch.equal(rs, before)
    assert torch.equal(x, expected["x"])
    assert torch.equal(skip, expected["skip"])


@pytest.mark.one_isa
def test_nothing_in_gives_nothing() -> None:
    for B, L in ((0, 3), (2, 0)):
        padded = torch.zeros(B, L + 2, 4)
        ops.residual_update(
            torch.ones(B, L, 9), torch.ones(B, L, 4), torch.ones(B, L, 5), padded=padded
        )
        assert not padded.any()


@pytest.mark.one_isa
def test_autograd_learns_of_the_change_and_no_gradient_is_promised() -> None:
    for name in ("x", "skip", "padded"):
        arguments = given(padded=torch.zeros(2, 5, 4))
        product = torch.ones((), requires_grad=True) * arguments[name]
        ops.residual_update(**arguments)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            product.sum().backward()
    with pytest.raises(RuntimeError, match=r"residual_update: made for inference.*no_grad"):
        ops.residual_update(**given(rs=torch.ones(2, 3, 9, requires_grad=True)))


@pytest.mark.one_isa
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rs": torch.ones(3, 9)}, r"rs must have shape \(B, L, features\), got \(3, 9\)"),
        ({"rs": torch.ones(2, 3, 9).half()}, "rs must be float32 or float64, got float16"),
        ({"x": torch.ones(2, 4, 4)}, r"x must have shape \(B, L, R\), got \(2, 4, 4\)"),
        ({"x": torch.ones(2, 3, 10)}, r"x must have at most the 9 features of rs, got"),
        ({"skip": torch.ones(2, 3, 4)}, r"skip must have shape \(B, L, S\) = \(2, 3, 5\), got"),
        ({"skip": torch.ones(2, 3, 5).double()}, "skip must be float32, got float64"),
        ({"padded": torch.ones(2, 3, 4)}, r"padded must have shape \(B, L \+ 2, R\) = \(2, 5, 4"),
        ({"step": torch.ones(2, 4)}, "step must be left out where padded is"),
        (
            {"padded": torch.ones(2, 5, 4), "step": torch.ones(3, 4)},
            r"step must have shape \(B\|1, R\) = \(2, 4\), got \(3, 4\)",
        ),
        ({"x": torch.ones(2, 3, 4, device="meta")}, "x must be on cpu, got meta"),
    ],
)
def test_wrong_arguments_name_what_was_expected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ops.residual_update(**given(**change))


@pytest.mark.one_isa
@pytest.mark.parametrize("name", ["rs", "x", "skip", "padded", "step"])
def test_what_is_no_tensor_is_a_type_error(name: str) -> None:
    arguments = given(padded=torch.ones(2, 5, 4)) | {name: [1.0]}
    with pytest.raises(TypeError, match=f"residual_update: {name} must be a tensor, got list"):
        ops.residual_update(**arguments)


@pytest.mark.one_isa
def test_shared_memory_is_refused() -> None:
    x, rs = torch.zeros(2, 3, 4), torch.zeros(2, 3, 9)
    for change, message in (
        ({"x": rs[..., :4]}, "x must not share memory with rs"),
        ({"skip": rs[..., 4:]}, "skip must not share memory with rs"),
        ({"x": x, "rs": torch.zeros(2, 3, 8), "skip": x}, "x must not share memory with skip"),
        ({"padded": torch.zeros(1, 5, 4).expand(2, 5, 4)}, "padded must not overlap itself"),
        ({"x": torch.zeros(2, 3, 8)[..., ::2]}, "x must have a dense last axis"),
        ({"skip": torch.zeros(2, 1, 5).expand(2, 3, 5)}, "skip must not overlap itself"),
    ):
        with pytest.raises(RuntimeError, match=message):
            ops.residual_update(**given(**{"rs": rs, **change}))
    shared = torch.zeros(2, 5, 4)
    with pytest.raises(RuntimeError, match="padded must not share memory with x"):
        ops.residual_update(**given(x=shared[:, 1:-1], padded=shared))

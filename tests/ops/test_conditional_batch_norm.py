# SPDX-License-Identifier: MIT
"""Conditional batch normalisation against what the reference systems gave, running statistics and
gradients included."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ecgcore import ops
from ecgcore.testing import relative_error
from support import recorded, recorded_names

WHICH = pytest.mark.parametrize("which", ["native", "reference"])


def function(which: str) -> Any:
    return (ops if which == "native" else ops.reference).conditional_batch_norm


@WHICH
@pytest.mark.parametrize("name", recorded_names("cbn__*"))
def test_recorded_outputs_gradients_and_running_statistics(name: str, which: str) -> None:
    data = recorded(name)
    x, y, weight = (data[k].requires_grad_() for k in ("in/x", "in/y", "state/embed.weight"))
    mean, var = (data[f"state/bn.running_{k}"] for k in ("mean", "var"))
    gamma, beta = (y @ weight).chunk(2, dim=-1)
    out = function(which)(
        x, gamma, beta, mean, var, training=data.config["training"], eps=data.config["eps"]
    )
    assert relative_error(out, data["out64/out"]) < 1e-6
    for key, got in (("mean", mean), ("var", var)):
        assert relative_error(got, data[f"state_after/bn.running_{key}"]) < 1e-6
    gradients = torch.autograd.grad(out, (x, y, weight), data["in/cot"])
    # Two values a feature: their gradient is a small difference of large numbers.
    limits = (1e-2 if name.endswith("B2F3L1") else 1e-6, 1e-6, 1e-6)
    for key, gradient, limit in zip(
        ("in/x", "in/y", "state/embed.weight"), gradients, limits, strict=True
    ):
        assert relative_error(gradient, data[f"grad64/{key}"]) < limit, key


def inputs(B: int = 4, F: int = 3, L: int = 6) -> dict[str, Any]:
    return {
        "x": torch.randn(B, F, L) * 2 + 1,
        "gamma": torch.randn(B, F),
        "beta": torch.randn(B, F),
        "running_mean": torch.randn(F),
        "running_var": torch.rand(F) + 0.5,
    }


@pytest.mark.parametrize("momentum", [0.0, 0.1, 1.0])
def test_running_statistics_move_as_those_of_torch(momentum: float) -> None:
    drawn = inputs()
    norm = torch.nn.BatchNorm1d(3, affine=False, momentum=momentum)
    with torch.no_grad():
        norm.running_mean.copy_(drawn["running_mean"])  # type: ignore[operator, union-attr]
        norm.running_var.copy_(drawn["running_var"])  # type: ignore[operator, union-attr]
    norm(drawn["x"])
    ops.conditional_batch_norm(**drawn, training=True, momentum=momentum)
    torch.testing.assert_close(drawn["running_mean"], norm.running_mean)
    torch.testing.assert_close(drawn["running_var"], norm.running_var)


def test_running_statistics_stay_in_eval_and_for_an_empty_batch() -> None:
    drawn = inputs()
    before = [drawn[f"running_{k}"].clone() for k in ("mean", "var")]
    ops.conditional_batch_norm(**drawn, training=False)
    empty = {k: v[:0] if k in ("x", "gamma", "beta") else v for k, v in drawn.items()}
    assert ops.conditional_batch_norm(**empty, training=True).shape == (0, 3, 6)
    for k, value in zip(("mean", "var"), before, strict=True):
        assert torch.equal(drawn[f"running_{k}"], value)


def test_running_statistics_count_their_changes() -> None:
    """In-place updates are seen by autograd's version counters, as torch's own are."""
    drawn = inputs()
    versions = [drawn[f"running_{k}"]._version for k in ("mean", "var")]
    ops.conditional_batch_norm(**drawn, training=True)
    assert all(
        drawn[f"running_{k}"]._version > v for k, v in zip(("mean", "var"), versions, strict=True)
    )


@pytest.mark.parametrize("B", [1, 2])
def test_one_value_per_feature_is_torchs_error(B: int) -> None:
    drawn = inputs(B, 3, 1)
    if B == 2:
        ops.conditional_batch_norm(**drawn, training=True)
        return
    message = r"Expected more than 1 value per channel when training, got input size"
    for which in (ops, ops.reference):
        with pytest.raises(ValueError, match=message):
            which.conditional_batch_norm(**drawn, training=True)  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match=message):
        torch.ops.ecgcore.conditional_batch_norm(
            drawn["x"], drawn["gamma"], drawn["beta"], None, None, 1e-5, 0, 0.0
        )
    ops.conditional_batch_norm(**drawn, training=False)


def test_a_label_of_zeros_gives_zeros() -> None:
    drawn = inputs()
    drawn["gamma"] = torch.zeros(4, 3)
    drawn["beta"] = torch.zeros(4, 3)
    for training in (True, False):
        y = ops.conditional_batch_norm(**drawn, training=training)
        assert torch.count_nonzero(y) == 0


@pytest.mark.parametrize("offset", [0.0, 1e2, 1e4])
@pytest.mark.parametrize("shape", [(64, 3, 2), (16, 3, 40), (3, 3, 5000)])
def test_moments_keep_their_digits_far_from_zero(
    shape: tuple[int, int, int], offset: float
) -> None:
    x = torch.randn(shape) + offset
    x[0] += 5  # a sample that lies apart
    ones = torch.ones(shape[:2])
    _, (mean, unbiased, inverse) = torch.ops.ecgcore.conditional_batch_norm(
        x, ones, ones, None, None, 1e-5, 0, 0.0
    )
    wide = x.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(mean.double(), wide.mean(1), rtol=1e-7, atol=2e-7)
    torch.testing.assert_close(unbiased.double(), wide.var(1), rtol=2e-6, atol=0)
    biased = wide.var(1, unbiased=False)
    torch.testing.assert_close(inverse.double(), (biased + 1e-5).rsqrt(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh"])
def test_at_zero_and_beyond_the_activations_are_those_of_torch(activation: str) -> None:
    values = [0.0, -0.0, 1e-30, -1e-30, 0.3, -0.62, 0.63, 3.0, -9.0, 20.0, -1e4, float("nan")]
    pre = torch.tensor(values * 3).view(1, 1, -1)
    x = pre.clone().requires_grad_()
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    torchs = pre.clone().requires_grad_()
    expected = {
        "relu": torch.relu,
        "leaky_relu": lambda z: torch.nn.functional.leaky_relu(z, 0.2),
        "tanh": torch.tanh,
    }[activation](torchs)
    y = ops.conditional_batch_norm(
        x,
        one,
        zero,
        zero[0],
        one[0],
        training=False,
        eps=0.0,
        activation=activation,
        negative_slope=0.2,
    )
    torch.testing.assert_close(y, expected, rtol=3e-7, atol=0, equal_nan=True)
    for output in (y, expected):
        output.nansum().backward()
    known = ~pre.isnan()
    assert x.grad is not None
    assert torchs.grad is not None
    torch.testing.assert_close(x.grad[known], torchs.grad[known], rtol=1e-6, atol=2e-7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.randn(4, 3)}, r"x must have shape \(B, F, L\), got \(4, 3\)"),
        ({"x": torch.randn(4, 3, 0)}, "L must be at least 1, got 0"),
        ({"x": torch.randn(4, 3, 6).half()}, "x must be float32 or float64, got float16"),
        ({"gamma": torch.randn(4, 2)}, r"gamma must have shape \(B, F\) = \(4, 3\), got \(4, 2\)"),
        ({"beta": torch.randn(3)}, r"beta must have shape \(B, F\) = \(4, 3\), got \(3,\)"),
        ({"running_mean": torch.zeros(4)}, r"running_mean must have shape \(F,\) = \(3,\)"),
        ({"running_var": torch.ones(3).double()}, "running_var must be float32, got float64"),
        ({"activation": "gelu"}, "activation must be None, 'relu', .*, got 'gelu'"),
    ],
)
def test_wrong_arguments_name_what_was_expected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ops.conditional_batch_norm(**{**inputs(), **change}, training=True)


def test_missing_running_statistics_are_a_type_error() -> None:
    with pytest.raises(TypeError, match="running_mean must be a tensor, got NoneType"):
        ops.conditional_batch_norm(**{**inputs(), "running_mean": None}, training=True)


def test_the_bare_operator_checks_what_python_cannot_get_wrong() -> None:
    drawn = inputs()
    arguments = [drawn["x"], drawn["gamma"], drawn["beta"]]
    op = torch.ops.ecgcore.conditional_batch_norm
    with pytest.raises(RuntimeError, match="must be given together"):
        op(*arguments, drawn["running_mean"], None, 1e-5, 0, 0.0)
    with pytest.raises(RuntimeError, match="activation must be a number from 0 to 3, got 4"):
        op(*arguments, None, None, 1e-5, 4, 0.0)

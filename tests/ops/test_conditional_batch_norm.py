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

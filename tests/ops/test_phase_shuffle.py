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

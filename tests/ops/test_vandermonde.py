"""``vandermonde`` and its transpose against what the reference systems gave, output and
gradients."""

from __future__ import annotations

import pytest
import torch

from ecgcore import ops
from ecgcore.testing import relative_error
from support import Recorded, recorded, recorded_names

NAMES = recorded_names("vandermonde__*")


def tolerance(data: Recorded, L: int) -> float:  # of the fixtures' README
    return 1e-6 + 2e-8 * L if data["in/v"].dtype == torch.complex64 else 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_recorded_sums_and_gradients(name: str, op_backend: str) -> None:
    data = recorded(name)
    L = data["out/K"].shape[-1]
    v, x = (data[f"in/{k}"].requires_grad_() for k in "vx")
    out = ops.vandermonde(v, x, L)
    assert relative_error(out, data["out64/K"]) < tolerance(data, L)
    gradients = torch.autograd.grad(out, (v, x), data["in/cot_K"].to(out.dtype))
    for key, gradient in zip("vx", gradients, strict=True):
        assert relative_error(gradient, data[f"grad64/in/{key}"]) < tolerance(data, L), key


@pytest.mark.parametrize("name", NAMES)
def test_recorded_transposed_sums_and_gradients(name: str, op_backend: str) -> None:
    data = recorded(name)
    u, v, x = (data[f"in/{k}"].requires_grad_() for k in ("t_u", "t_v", "x"))
    L = u.shape[-1]
    out = ops.vandermonde_transpose(u, v, x, L)
    assert relative_error(out, data["out64/T"]) < tolerance(data, L)
    gradients = torch.autograd.grad(out, (u, v, x), data["in/cot_T"].to(out.dtype))
    for key, gradient in zip(("t_u", "t_v", "t_x"), gradients, strict=True):
        assert relative_error(gradient, data[f"grad64/in/{key}"]) < tolerance(data, L), key

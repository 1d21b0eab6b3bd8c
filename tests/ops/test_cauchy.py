"""``cauchy`` against what the reference systems gave, output and gradients."""

from __future__ import annotations

import pytest
import torch

from ecgcore import ops
from ecgcore.testing import relative_error
from support import recorded, recorded_names


@pytest.mark.parametrize("name", recorded_names("cauchy__*"))
def test_recorded_sums_and_gradients(name: str, op_backend: str) -> None:
    data = recorded(name)
    pairs = "__sym_" in name
    v, z, w = (data[f"in/{k}"].requires_grad_() for k in "vzw")
    out = ops.cauchy(v, z, w, conjugate_pairs=pairs)
    tolerance = 2e-6 if out.dtype == torch.complex64 else 1e-12  # of the fixtures' README
    assert relative_error(out, data["out64/r"]) < tolerance
    gradients = torch.autograd.grad(out, (v, z, w), data["in/cot"].to(out.dtype))
    for key, gradient in zip("vzw", gradients, strict=True):
        assert f"grad64/in/{key}" in data or key == "z"
        if f"grad64/in/{key}" in data:
            assert relative_error(gradient, data[f"grad64/in/{key}"]) < tolerance, key

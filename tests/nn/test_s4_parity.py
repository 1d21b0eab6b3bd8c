"""S4 and S4Layer against recordings of the reference."""

from __future__ import annotations

import pytest
import torch

from ecgcore import nn
from ecgcore.testing.compare import relative_error
from support import Recorded, recorded, recorded_names

NAMES = recorded_names("s4layer__*")


def run(r: Recorded, dtype: torch.dtype, **switches):
    """Output, and gradients by the path they are recorded under."""
    generation, name = r.config["module"].split(".")
    module = getattr(getattr(nn, generation), name)(
        **r.config["kwargs"], odd_length="reference", **switches
    )
    module.load_state_dict(r.under("state"))
    module.to(dtype).eval()
    x = r["in/x"].to(dtype).requires_grad_()
    y = module(x)
    if name == "S4":
        assert y[1] is None
        y = y[0]
    (y * r["in/cot"].to(dtype)).sum().backward()
    grads = {f"state/{k}": p.grad for k, p in module.named_parameters()} | {"in/x": x.grad}
    return y.detach(), grads


def relative_l2(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(((a.double() - b.double()).norm() / b.double().norm()).item())


def check_grads(grads: dict, r: Recorded, key: str, limit: float) -> None:
    wanted = r.under(key)
    assert set(wanted) == set(grads)
    for path, expected in wanted.items():
        error = relative_l2(grads[path], expected)
        assert error <= limit, (path, error)


@pytest.mark.parametrize("name", NAMES)
def test_float32_with_the_stored_nodes(name):
    r = recorded(name)
    y, grads = run(r, torch.float32)
    assert relative_error(y, r["out/y"]) <= 1e-5
    assert relative_error(y, r["out64/y_f32nodes"]) <= 1e-5
    assert relative_error(y, r["out64/y"]) <= 5e-4
    check_grads(grads, r, "grad", 1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_float32_with_exact_nodes(name):
    r = recorded(name)
    y, grads = run(r, torch.float32, exact_nodes=True)
    assert relative_error(y, r["out64/y"]) <= 1e-5
    check_grads(grads, r, "grad64", 1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_float64_with_exact_nodes(name):
    r = recorded(name)
    y, grads = run(r, torch.float64, exact_nodes=True)
    assert relative_error(y, r["out64/y"]) <= 1e-10
    check_grads(grads, r, "grad64", 1e-8)

"""S4 and S4Layer against recordings of the reference."""

from __future__ import annotations

import pytest
import torch

from ecgcore import nn
from ecgcore.testing.compare import relative_error
from s4_checks import check_layer_grads, run_layer
from support import Recorded, recorded, recorded_names

NAMES = recorded_names("s4layer__*")


def run(r: Recorded, dtype: torch.dtype, **switches):
    """Output, and gradients by the path they are recorded under."""
    generation, name = r.config["module"].split(".")
    module = getattr(getattr(nn, generation), name)(
        **r.config["kwargs"], odd_length="reference", **switches
    )
    module.load_state_dict(r.under("state"))
    if name == "S4":
        assert module(r["in/x"])[1] is None
    return run_layer(module, r, dtype)


@pytest.mark.parametrize("name", NAMES)
def test_float32_with_the_stored_nodes(name):
    r = recorded(name)
    y, grads = run(r, torch.float32)
    assert relative_error(y, r["out/y"]) <= 1e-5
    assert relative_error(y, r["out64/y_f32nodes"]) <= 1e-5
    assert relative_error(y, r["out64/y"]) <= 5e-4
    check_layer_grads(grads, r, "grad", 1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_float32_with_exact_nodes(name):
    r = recorded(name)
    y, grads = run(r, torch.float32, exact_nodes=True)
    assert relative_error(y, r["out64/y"]) <= 1e-5
    check_layer_grads(grads, r, "grad64", 1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_float64_with_exact_nodes(name):
    r = recorded(name)
    y, grads = run(r, torch.float64, exact_nodes=True)
    assert relative_error(y, r["out64/y"]) <= 1e-10
    check_layer_grads(grads, r, "grad64", 1e-8)

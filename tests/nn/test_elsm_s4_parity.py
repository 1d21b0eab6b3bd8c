"""The second generation's S4 and S4Module against recordings of the reference."""

from __future__ import annotations

import json

import pytest
import torch

import ecgcore
from ecgcore.nn import elsm
from ecgcore.testing.compare import relative_error
from s4_checks import check_layer_grads, run_layer
from support import Recorded, need_shared, recorded, recorded_names

NAMES = recorded_names("elsm_s4__*")


def build(r: Recorded, state: str = "state", **switches) -> torch.nn.Module:
    if r.config["module"] == "elsm.S4Module":
        module = elsm.S4Module(r.config["spade_cfg"], **switches)
    else:
        if r.config["kwargs"].get("mode") == "diag":
            switches = {}
        module = elsm.S4(**r.config["kwargs"], **switches)
    module.load_state_dict(r.under(state))
    return module


def run(module: torch.nn.Module, r: Recorded, dtype: torch.dtype):
    padding = (r["in/padding_mask"].bool(),) if "in/padding_mask" in r else ()
    return run_layer(module, r, dtype, *padding)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("name", NAMES)
def test_float32_with_the_rounded_nodes(name, backend):
    r = recorded(name)
    with ecgcore.backend(backend):
        y, grads = run(build(r, exact_nodes=False), r, torch.float32)
    assert relative_error(y, r["out/y"]) <= 1e-5
    assert relative_error(y, r["out64/y_f32nodes"]) <= 1e-5
    assert relative_error(y, r["out64/y"]) <= 5e-4
    check_layer_grads(grads, r, "grad", 1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_float32_with_exact_nodes(name):
    r = recorded(name)
    y, grads = run(build(r), r, torch.float32)
    assert relative_error(y, r["out64/y"]) <= 1e-5
    check_layer_grads(grads, r, "grad64", 1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_float64(name):
    r = recorded(name)
    y, grads = run(build(r), r, torch.float64)
    assert relative_error(y, r["out64/y"]) <= 1e-10
    check_layer_grads(grads, r, "grad64", 1e-8)


@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("name", recorded_names("dsat__*L1000*"))
def test_before_and_after_the_first_forward_of_a_dsat_layer(name, block):
    """One layer of a recorded DSAT-ECG: both of its states give the same output."""
    r = recorded(name)
    prefix = f"residual_layer.residual_blocks.0.spade_{block}.s4_module."
    before, after = (
        {k.removeprefix(prefix): v for k, v in r.under(s).items() if k.startswith(prefix)}
        for s in ("state_pre", "state")
    )
    C, L = "s4.kernel.kernel.C", "s4.kernel.kernel.L"
    assert (before[L], after[L]) == (0, 1024)
    _, width, n, _ = after[C].shape
    cfg = {"decoder.embed_dim": width, "s4_state_dim": 2 * n}
    x = torch.randn(1000, 2, width)
    outputs = []
    for state in (before, after):
        module = elsm.S4Module(cfg)
        module.load_state_dict(state)
        outputs.append(module(x))
        assert module.state_dict()[L] == 1024
        # The reference corrects C in single precision, ours in double.
        assert relative_error(module.state_dict()[C], after[C]) <= 1e-4
    assert relative_error(outputs[0], outputs[1]) <= 1e-4
    assert torch.equal(module.state_dict()[C], after[C])  # not corrected twice


def test_keys_and_shapes_are_those_of_the_full_size_dsat():
    shapes = json.loads(need_shared("fixtures", "full_size_state_dict_shapes.json").read_text())
    prefix = "residual_layer.residual_blocks.0.spade_1.s4_module."
    expected = {
        k.removeprefix(prefix): v
        for k, v in shapes["DSAT_ECG"]["state_dict"].items()
        if k.startswith(prefix)
    }
    module = elsm.S4Module()
    parameters = dict(module.named_parameters())
    got = {
        key: [list(v.shape), str(v.dtype).removeprefix("torch."), kind]
        for key, v in module.state_dict().items()
        for kind in ("param" if key in parameters else "buffer",)
    }
    assert got == expected
    assert list(got) == list(expected)

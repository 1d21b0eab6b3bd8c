from __future__ import annotations

from typing import Any

import pytest

from ecgcore.train.launch import Plan
from support import ROOT

DSAT: dict[str, Any] = {
    "model_name": "DSATECG",
    "model": {
        "in_channels": 8,
        "res_channels": 16,
        "skip_channels": 16,
        "num_res_layers": 2,
        "out_channels": 8,
        "diffusion_step_embed_dim_in": 8,
        "diffusion_step_embed_dim_mid": 16,
        "diffusion_step_embed_dim_out": 16,
        "label_embed_classes": 5,
        "label_embed_dim": 8,
    },
    "spade_cfg": {
        "decoder.attention_heads": 2,
        "decoder.ffn_embed_dim": 32,
        "local_radius": 31,
        "s4_state_dim": 8,
        "max_target_positions": 256,
    },
}


@pytest.fixture
def plan() -> Plan:
    """A tiny SSSD-ECG, with dropout, on ten simulated records; twelve steps."""
    return Plan.read(ROOT / "configs" / "test.json")


@pytest.fixture
def dsat_plan(plan: Plan) -> Plan:
    """The same run of a tiny DSAT-ECG; its S4 kernels are longer than the records."""
    return Plan.read(plan.to_dict() | DSAT)


@pytest.fixture
def config(plan: Plan) -> dict[str, Any]:
    return plan.to_dict()

from __future__ import annotations

from typing import Any

import pytest

from ecgcore.train.launch import Plan
from support import ROOT


@pytest.fixture
def plan() -> Plan:
    """A tiny SSSD-ECG, with dropout, on ten simulated records; twelve steps."""
    return Plan.read(ROOT / "configs" / "test.json")


@pytest.fixture
def config(plan: Plan) -> dict[str, Any]:
    return plan.to_dict()

"""``compat.export_state_dict``: the references' state dicts back, bit for bit, for every layer."""

from __future__ import annotations

import contextlib

import pytest
import torch
from test_elsm_s4_parity import build as elsm_layer

from ecgcore import nn
from ecgcore.compat import export_state_dict
from s4_checks import first_generation, second_generation
from support import Recorded, recorded, recorded_names


def s4_layer(r: Recorded) -> torch.nn.Module:
    generation, name = r.config["module"].split(".")
    return getattr(getattr(nn, generation), name)(**r.config["kwargs"])


FAMILIES = {
    "s4nplr__*": first_generation,
    "s4layer__*": s4_layer,
    "elsm_nplr__*": second_generation,
    "elsm_diag__*": second_generation,
    "elsm_s4__*": elsm_layer,
}
ALL = [
    pytest.param(name, build, id=name)
    for pattern, build in FAMILIES.items()
    for name in recorded_names(pattern, exclude=("s4nplr__compat_halfsum*",))
]


@pytest.mark.parametrize(("name", "build"), ALL)
def test_a_recorded_state_comes_back_bit_for_bit(name, build):
    r = recorded(name)
    layer, state = build(r), r.under("state")
    layer.load_state_dict(state)
    exported = export_state_dict(layer, weight_norm="new")
    assert exported.keys() == state.keys()
    for key, value in state.items():
        assert exported[key].shape == value.shape, key
        assert exported[key].dtype == value.dtype, key
        if not f".{key}".endswith(".A"):  # S4D's, which the reference holds but never reads
            assert torch.equal(exported[key], value), key


@pytest.mark.parametrize("make", [
    lambda: nn.S4(4, d_state=8, l_max=20, weight_norm=True, bidirectional=True),
    lambda: nn.S4(4, d_state=8, l_max=20, weight_norm=True, transposed=False, postact="glu"),
    lambda: nn.S4D(4, d_state=8),
    lambda: nn.elsm.S4(4, d_state=8, l_max=20, mode="diag", measure="diag-lin", n_ssm=2),
    lambda: torch.nn.ModuleDict({"a": nn.Conv(3, 4), "b": nn.S4Layer(4, 20, N=8)}),
])  # fmt: skip
@pytest.mark.parametrize("weight_norm", ["old", "new"])
def test_both_styles_of_weight_norm_load_back(make, weight_norm):
    module, other = make(), make()
    exported = export_state_dict(module, weight_norm=weight_norm)
    normed = any("parametrizations" in key for key in module.state_dict())
    assert any(key.endswith(("weight_g", "weight_v")) for key in exported) == (
        normed and weight_norm == "old"
    )
    assert any("parametrizations" in key for key in exported) == (normed and weight_norm == "new")
    other.load_state_dict(exported)
    for key, value in module.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key
    for value in exported.values():
        assert value.is_contiguous()
        assert not value.requires_grad


def test_what_torch_itself_makes_loads_the_export():
    """Old style: the hook of ``torch.nn.utils.weight_norm``; new style: the parametrization."""
    ours = nn.Conv(3, 4).conv
    for style, wrap in (
        ("old", torch.nn.utils.weight_norm),
        ("new", torch.nn.utils.parametrizations.weight_norm),
    ):
        with pytest.warns() if style == "old" else contextlib.nullcontext():
            theirs = wrap(torch.nn.Conv1d(3, 4, 3, padding=1))
        theirs.load_state_dict(export_state_dict(ours, weight_norm=style))
        x = torch.randn(2, 3, 9)
        assert torch.allclose(theirs(x), ours(x), atol=1e-6)

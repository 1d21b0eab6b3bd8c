"""Local attention and the SPADE layer against recordings of the reference."""

from __future__ import annotations

import pytest
import torch

import ecgcore
from ecgcore import nn
from ecgcore.nn.local_attention import relative_position_buckets
from ecgcore.testing.compare import relative_error
from s4_checks import check_layer_grads, run_layer
from support import Recorded, recorded, recorded_names

ATTENTION = recorded_names("local_attn__*")
SPADE = recorded_names("spade__*")
SPADE_BEFORE = [n for n in SPADE if "*" in n or recorded(n).under("state_pre")]


def attention(r: Recorded) -> nn.LocalAttention:
    module = nn.LocalAttention(**r.config["kwargs"])
    module.load_state_dict(r.under("state"))
    return module


def spade(r: Recorded, state: str = "state", **switches) -> nn.SpadeDecoderLayer:
    names = ("has_relative_attention_bias", "layer_idx")
    options = {name: r.config[name] for name in names}
    layer = nn.SpadeDecoderLayer(r.config["spade_cfg"], **options, **switches)
    layer.load_state_dict(r.under(state))
    return layer


@pytest.mark.parametrize(
    ("dtype", "limit", "grad_limit"),
    [(torch.float32, 2e-6, 5e-6), (torch.float64, 1e-12, 1e-12)],
)
@pytest.mark.parametrize("name", ATTENTION)
def test_local_attention(name, dtype, limit, grad_limit):
    r = recorded(name)
    mask = () if "in/local_mask" not in r else (r["in/local_mask"],)
    y, grads = run_layer(attention(r), r, dtype, *mask)
    expected = r["out64/y"]
    if "in/attention_mask" in r:  # rows of padded queries mean nothing
        valid = r["in/attention_mask"].bool().t()
        y, expected = y[valid], expected[valid]
    assert relative_error(y, expected) <= limit
    wanted = r.under("grad64")
    assert set(wanted) == set(grads)
    for path, value in wanted.items():
        assert relative_error(grads[path], value) <= grad_limit, path


@pytest.mark.parametrize("name", recorded_names("local_attn__*relbias"))
def test_relative_positions(name):
    r = recorded(name)
    module = attention(r)
    y, bias = module(r["in/x"])
    assert torch.equal(bias, r["out/position_bias"])
    assert torch.equal(module(r["in/x"], position_bias=bias)[0], y)
    T = module.block_length
    relative = torch.arange(3 * T) - T - torch.arange(T)[:, None]
    for key, bidirectional in (("out/bucket", False), ("out/bucket_bidir", True)):
        got = relative_position_buckets(
            relative,
            bidirectional=bidirectional,
            num_buckets=r.config["kwargs"]["relative_attention_num_buckets"],
            max_distance=r.config["kwargs"]["relative_attention_max_distance"],
        )
        assert torch.equal(got, r[key])


@pytest.mark.parametrize("name", recorded_names("local_attn__*localmask"))
def test_the_mask_of_an_attention_mask(name):
    r = recorded(name)
    T = r.config["kwargs"]["local_radius"] + 1
    assert torch.equal(nn.local_attention_mask(r["in/attention_mask"], T), r["in/local_mask"])


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("name", SPADE)
def test_spade_with_the_rounded_nodes(name, backend):
    r = recorded(name)
    with ecgcore.backend(backend):
        y, grads = run_layer(spade(r, exact_nodes=False), r, torch.float32)
    assert relative_error(y, r["out/y"]) <= 1e-5
    assert relative_error(y, r["out64/y_f32nodes"]) <= 1e-5
    assert relative_error(y, r["out64/y"]) <= 5e-4
    check_layer_grads(grads, r, "grad", 1e-3)


@pytest.mark.parametrize("name", SPADE)
def test_spade_with_exact_nodes(name):
    r = recorded(name)
    y, grads = run_layer(spade(r), r, torch.float32)
    assert relative_error(y, r["out64/y"]) <= 1e-5
    check_layer_grads(grads, r, "grad64", 1e-3)


@pytest.mark.parametrize("name", SPADE)
def test_spade_in_double_precision(name):
    r = recorded(name)
    y, grads = run_layer(spade(r), r, torch.float64)
    assert relative_error(y, r["out64/y"]) <= 1e-10
    check_layer_grads(grads, r, "grad64", 1e-8)


@pytest.mark.parametrize("name", SPADE_BEFORE)
def test_spade_before_its_first_forward(name):
    r = recorded(name)
    layer = spade(r, "state_pre", exact_nodes=False).eval()
    with torch.no_grad():
        y = layer(r["in/x"])[0]
    assert relative_error(y, r["out/y"]) <= 1e-5
    key = "s4_module.s4.kernel.kernel.L"
    assert layer.state_dict()[key] == r[f"state/{key}"]


@pytest.mark.parametrize("name", SPADE)
def test_keys_stand_in_the_references_order(name):
    r = recorded(name)
    assert list(spade(r).state_dict()) == list(r.under("state"))


def test_a_seed_gives_the_references_initial_weights():
    r = recorded("init_seeded")
    expected = r.under("out/LocalAttention")
    torch.manual_seed(r.config["seed"])
    module = nn.LocalAttention(**r.config["kwargs"]["LocalAttention"])
    assert torch.equal(torch.rand(4), expected.pop("__next_rand"))
    state = module.state_dict()
    assert list(state) == list(expected)
    for key, value in expected.items():
        assert torch.equal(state[key], value), key

"""A plan computes what the module computes: every option, odd lengths, other rates, precisions."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ecgcore import diffusion, engine
from ecgcore.engine import plan, product
from ecgcore.models import DSATECG, SSSDECG
from ecgcore.nn import HippoSSKernel, elsm
from ecgcore.testing.compare import relative_error
from engine_checks import (
    DSAT_OPTIONS,
    LIMIT,
    SSSD_OPTIONS,
    differences,
    dsat,
    inputs,
    prepared,
    sssd,
    with_layers_without_s4,
)
from support import Recorded, recorded, recorded_names

SHAPES = [(1, 40), (3, 40), (2, 37), (1, 1), (2, 2), (1, 53)]
TRAJECTORIES = [
    n
    for n in recorded_names("sssd__*", "dsat__*traj*")
    if "*" in n or "in/traj_noise" in recorded(n)
]


@pytest.mark.parametrize("option", SSSD_OPTIONS)
def test_sssd_with_every_option(option):
    model = sssd(**SSSD_OPTIONS[option])
    for batch, length in SHAPES:
        assert max(differences(model, batch, length)) <= LIMIT, (batch, length)


@pytest.mark.parametrize("option", DSAT_OPTIONS)
def test_dsat_with_every_option(option):
    model = dsat(DSAT_OPTIONS[option])
    for batch, length in SHAPES:
        assert max(differences(model, batch, length)) <= LIMIT, (batch, length)


def test_dsat_without_classes_and_with_one_block():
    for options in ({"label_embed_classes": 0}, {"num_res_layers": 1, "skip_channels": 7}):
        assert max(differences(dsat(**options), 2, 30)) <= LIMIT


@pytest.mark.parametrize("combine", ["add", "concat", "stack"])
def test_spade_layers_that_the_model_has_by_hand_only(combine):
    model = with_layers_without_s4(dsat({"s4_local_combine": combine}))
    assert max(differences(model, 2, 33)) <= LIMIT


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_combination(data):
    def one_of(options: Any) -> Any:
        return data.draw(st.sampled_from(options))

    sizes = {
        name: data.draw(st.integers(1, 9))
        for name in ("skip_channels", "num_res_layers", "in_channels", "out_channels")
    }
    sizes["num_res_layers"] = min(sizes["num_res_layers"], 3)
    flag = st.booleans()
    if data.draw(flag):
        model = sssd(
            **sizes,
            res_channels=data.draw(st.integers(1, 9)),
            s4_lmax=data.draw(st.integers(1, 50)),
            s4_layernorm=data.draw(flag),
            s4_bidirectional=data.draw(flag),
            exact_nodes=data.draw(flag),
            conjugate_pairs=data.draw(flag),
        )
    else:
        spade = {
            "s4_local_combine": one_of(["add", "concat", "stack"]),
            "activation_fn": one_of(["relu", "gelu", "swish"]),
            **{
                name: data.draw(flag)
                for name in (
                    "decoder.normalize_before",
                    "scale_attn",
                    "scale_fc",
                    "scale_resids",
                )
            },
            "local_radius": data.draw(st.integers(0, 12)),
        }
        model = dsat(spade, **sizes)
    batch, length = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 70))
    assert max(differences(model, batch, length)) <= LIMIT


@pytest.mark.parametrize("make", [sssd, dsat])
def test_double_precision(make):
    assert max(differences(make().double(), 2, 37, dtype=torch.float64)) <= 1e-12


@pytest.mark.parametrize("packs", [True, False], ids=["ours", "torch's"])
@pytest.mark.parametrize("make", [sssd, dsat])
def test_bfloat16_products_are_as_close_as_their_rounding(make, packs, monkeypatch):
    monkeypatch.setattr(product, "packs", lambda device: packs)
    found = differences(make(res_channels=24), 2, 37, precision="bf16")
    assert min(found) > 1e-5
    assert max(found) <= 0.05


@pytest.mark.parametrize("precision", engine.PRECISIONS)
@pytest.mark.parametrize("make", [sssd, dsat])
def test_a_record_has_the_same_bits_in_any_batch_and_any_group(make, precision, monkeypatch):
    model, i = make(res_channels=24), torch.tensor([0])
    x, y = inputs(model, 5, 75)
    together = prepared(model, x, y, [2.0], precision=precision)(i, x)
    for n in range(5):
        own = x[n : n + 1].contiguous()
        alone = prepared(model, own, y[n : n + 1], [2.0], precision=precision)
        assert torch.equal(alone(i, own)[0], together[n])
    for records in (1, 2, 3, 5):
        monkeypatch.setattr(plan, "records_at_once", lambda _, records=records: records)
        evaluate = prepared(model, x, y, [2.0], precision=precision)
        for _ in range(2):  # the buffers hold other numbers by then
            assert torch.equal(evaluate(i, x), together)


@pytest.mark.parametrize("rate", [0.2, 0.5, 1.5])
@pytest.mark.parametrize(("batch", "length"), [(2, 40), (1, 75)])
def test_sssd_at_another_rate(rate, batch, length):
    for options in ({}, {"s4_bidirectional": False, "exact_nodes": True}):
        model = sssd(**options)
        module = copy.deepcopy(model)
        for part in module.modules():
            if isinstance(part, HippoSSKernel):
                part.rate = rate
        found = differences(model, batch, length, module=module, rate=rate)
        assert max(found) <= LIMIT
        assert max(differences(module, batch, length)) <= LIMIT  # its own rate is kept, too
        assert min(differences(model, batch, length, module=module)) > 100 * LIMIT


@pytest.mark.parametrize("rate", [0.2, 0.5, 1.5])
@pytest.mark.parametrize(("batch", "length"), [(2, 40), (1, 75)])
def test_dsat_at_another_rate(rate, batch, length):
    model = dsat()
    module = copy.deepcopy(model)
    for part in module.modules():
        if isinstance(part, elsm.S4):
            part.forward = partial(part.forward, rate=rate)
    found = differences(model, batch, length, module=module, rate=rate)
    assert max(found) <= LIMIT
    assert min(differences(model, batch, length, module=module)) > 100 * LIMIT


def _recorded_model(r: Recorded) -> SSSDECG | DSATECG:
    if "spade_cfg" in r.config:
        model: Any = DSATECG(
            **r.config["kwargs"], spade_cfg=r.config["spade_cfg"], exact_nodes=False
        )
    else:
        model = SSSDECG(**r.config["kwargs"], odd_length="reference")
    model.load_state_dict(r.under("state"))
    return model.eval()


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_recorded_trajectory(name):
    r = recorded(name)
    T, noise, y = r.config["traj_T"], r["in/traj_noise"], r["in/y"]
    evaluate = prepared(_recorded_model(r), noise[0], y, [float(t) for t in range(T)])
    seen = []

    def denoise(x: Tensor, labels: Tensor, steps: Tensor) -> Tensor:
        assert torch.equal(labels, y)
        eps = evaluate(steps[0].long(), x).clone()
        seen.append(eps)
        return eps

    schedule = diffusion.NoiseSchedule.linear(T, r.config["beta_0"], r.config["beta_T"])
    x0 = diffusion.sample(denoise, tuple(noise.shape[1:]), y, schedule, noise=noise)
    assert relative_error(x0, r["out/traj_x0"]) <= LIMIT
    assert relative_error(x0, r["out64/traj_x0"]) <= LIMIT
    for i, eps in enumerate(seen):
        assert relative_error(eps, r["out/traj_eps"][i]) <= LIMIT, i


@pytest.mark.parametrize("make", [sssd, dsat])
def test_a_record_does_not_depend_on_those_beside_it(make):
    model = make()
    x, y = inputs(model, 5, 40)
    index = torch.tensor([0])
    together = prepared(model, x, y, [1.0])(index, x)
    for n in range(5):
        alone = prepared(model, x[n : n + 1], y[n : n + 1], [1.0])(index, x[n : n + 1])
        assert relative_error(alone, together[n : n + 1]) <= 1e-6


@pytest.mark.parametrize("make", [sssd, dsat])
def test_inference_mode_around_any_part(make):
    model = make()
    x, y = inputs(model, 2, 40)
    expected = prepared(model, x, y, [1.0])(torch.tensor([0]), x).clone()
    with torch.inference_mode():
        inside = prepared(make(), x, y, [1.0])  # another model: only the modes are looked at
        evaluate = prepared(model, x.clone(), y.clone(), [1.0])
        assert torch.equal(evaluate(torch.tensor([0]), x.clone()), expected)
        inside(torch.tensor([0]), x)
    assert torch.equal(evaluate(torch.tensor([0]), x), expected)
    assert inside(torch.tensor([0]), x).isfinite().all()
    with torch.autocast("cpu", torch.bfloat16):
        evaluate = prepared(model, x, y, [1.0])
        assert torch.equal(evaluate(torch.tensor([0]), x), expected)


def test_what_does_not_fit_is_refused():
    model = sssd()
    x, y = inputs(model, 2, 40)

    def refused(match: str, model: Any = model, labels: Any = y, x: Tensor = x, **options: Any):
        with pytest.raises(ValueError, match=match):
            prepared(model, x, labels, [1.0], **options)

    refused("precision must be one of fp32, bf16, got 'fp16'", precision="fp16")
    refused("rate must be a positive number, got 0", rate=0.0)
    refused("label must have shape", labels=None)
    refused("label must have shape", labels=y[:1])
    refused("label must be None", model=sssd(label_embed_classes=0))
    refused("weights of it, got torch.float64 and torch.float32", x=x.double())
    refused("shape must be", x=x[:, :3])
    wide = sssd().double()
    refused("float64 model", model=wide, x=x.double(), labels=y.double(), precision="bf16")
    for options in ({"precision": "bf16"}, {"rate": 0.5}):
        refused("not compiled: it is in train", model=sssd().train(), **options)
        refused("neither an SSSDECG", model=lambda x, y, t: x, **options)
    evaluate = prepared(model, x, y, [1.0])
    with pytest.raises(ValueError, match=r"x must be torch\.float32 of shape"):
        evaluate(torch.tensor([0]), x[:1])
    assert engine.obstacle(model) is None

"""SSSD-ECG: keys and counts at full size, seeded initial weights, labels, copies, errors."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch

from ecgcore.errors import ConfigError
from ecgcore.models import SSSDECG, from_config
from support import ROOT, need_shared, recorded

SMALL = {
    "in_channels": 2,
    "res_channels": 4,
    "skip_channels": 6,
    "num_res_layers": 2,
    "out_channels": 3,
    "diffusion_step_embed_dim_in": 8,
    "diffusion_step_embed_dim_mid": 6,
    "diffusion_step_embed_dim_out": 5,
    "s4_lmax": 16,
    "s4_d_state": 4,
    "label_embed_classes": 5,
    "label_embed_dim": 7,
}


def awake(model: SSSDECG) -> SSSDECG:
    """With a last layer that is not zero, so that the output depends on everything before it."""
    torch.nn.init.normal_(model.final_conv[2].conv.weight)
    return model.eval()


@pytest.fixture
def model() -> SSSDECG:
    return awake(SSSDECG(**SMALL))


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(3, 2, 16), torch.eye(5)[[0, 3, 4]], torch.tensor([[0], [7], [199]])


@pytest.mark.parametrize("name", ["SSSD_ECG", "SSSD_Sinusoid"])
def test_full_size_model_has_the_references_keys_shapes_and_counts(name):
    table = json.loads(need_shared("fixtures", "full_size_state_dict_shapes.json").read_text())
    expected = table[name]
    with torch.device("meta"):
        model = from_config(ROOT / "configs" / f"{name.lower()}.json")
    state = model.state_dict()
    assert list(state) == list(expected["state_dict"])
    assert {k: list(v.shape) for k, v in state.items()} == {
        k: shape for k, (shape, _, _) in expected["state_dict"].items()
    }
    parameters = dict(model.named_parameters())
    assert {k: "param" if k in parameters else "buffer" for k in state} == {
        k: kind for k, (_, _, kind) in expected["state_dict"].items()
    }
    assert sum(p.numel() for p in parameters.values()) == expected["n_parameters"]
    assert sum(b.numel() for b in model.buffers()) == expected["n_buffer_elements"]


@pytest.mark.parametrize("name", ["S4", "S4Layer", "SSSD"])
def test_a_seed_gives_the_references_initial_weights(name):
    from ecgcore import nn

    r = recorded("init_seeded")
    expected = r.under(f"out/{name}")
    kwargs = dict(r.config["kwargs"][name])
    if name == "SSSD":  # the recording leaves these out of its arguments
        kwargs |= {"s4_lmax": 16, "s4_d_state": 4}
    make = {"S4": nn.S4, "S4Layer": nn.S4Layer, "SSSD": SSSDECG}[name]
    torch.manual_seed(r.config["seed"])
    module = make(**kwargs)
    next_rand = torch.rand(4)
    state = module.state_dict()
    assert list(state) == [k for k in expected if k != "__next_rand"]
    assert torch.equal(next_rand, expected.pop("__next_rand"))
    for key, value in expected.items():
        # Eigenvectors have arbitrary phases, and C carries them too once it is length-corrected.
        if key.split(".")[-1] in ("B", "P", "Q", "w", "C"):
            assert state[key].shape == value.shape
        else:
            assert torch.equal(state[key], value), key


def test_fresh_model_outputs_zero(inputs):
    assert (SSSDECG(**SMALL)(*inputs) == 0).all()


def test_output_and_gradients(model, inputs):
    eps = model(*inputs)
    assert eps.shape == (3, 3, 16)
    assert eps.dtype == torch.float32
    eps.square().sum().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == {
        f"residual_layer.residual_blocks.1.res_conv.{k}"
        for k in (
            "bias",
            "parametrizations.weight.original0",
            "parametrizations.weight.original1",
        )
    }


def test_records_of_a_batch_do_not_see_each_other(model, inputs):
    x, y, t = inputs
    together = model(x, y, t)
    for i in range(3):
        alone = model(x[i : i + 1], y[i : i + 1], t[i : i + 1])
        torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-4, atol=1e-5)


def test_steps_of_any_kind(model, inputs):
    x, y, t = inputs
    expected = model(x, y, t)
    for steps in (t.float(), t.flatten(), t.double(), t.int().flatten()):
        assert torch.equal(model(x, y, steps), expected)


def test_labels_add_up(model, inputs):
    x, _, t = inputs
    with torch.no_grad():
        model.embedding.weight[0] = model.embedding.weight[1] + model.embedding.weight[2]
    multi, one = torch.zeros(2, 3, 5)
    multi[:, 1:3] = 1
    one[:, 0] = 1
    torch.testing.assert_close(model(x, multi, t), model(x, one, t))
    assert torch.equal(model(x, one.long(), t), model(x, one, t))


def test_model_without_classes(inputs):
    x, y, t = inputs
    model = awake(SSSDECG(**(SMALL | {"label_embed_classes": 0})))
    assert not any("label" in k or "embedding" in k for k in model.state_dict())
    assert model(x, None, t).shape == (3, 3, 16)
    with pytest.raises(ValueError, match="label must be None, this model has no classes"):
        model(x, y, t)


@pytest.mark.parametrize("length", [1, 7, 16, 17, 50])
def test_any_length(model, inputs, length):
    _, y, t = inputs
    eps = model(torch.randn(3, 2, length), y, t)
    assert eps.shape == (3, 3, length)
    assert torch.isfinite(eps).all()


def test_survives_copying_pickling_and_changes_of_precision(model, inputs):
    x, y, t = inputs
    with torch.no_grad():
        expected = model(x, y, t)
        assert torch.equal(copy.deepcopy(model)(x, y, t), expected)
        other = pickle.loads(pickle.dumps(model))
        assert torch.equal(other(x, y, t), expected)
        assert other.config == model.config
        wide = other.double()(x.double(), y, t)
        assert wide.dtype == torch.float64
        torch.testing.assert_close(wide.float(), expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(other.float()(x, y, t), expected)


def test_both_weight_norm_styles_load(model, inputs):
    old = {}
    for key, value in model.state_dict().items():
        key = key.replace("parametrizations.weight.original0", "weight_g")
        old[key.replace("parametrizations.weight.original1", "weight_v")] = value
    assert len(old) == len(model.state_dict())
    other = SSSDECG(**SMALL)
    other.load_state_dict(old)
    assert torch.equal(other.eval()(*inputs), model(*inputs))


@pytest.mark.parametrize(
    ("x", "y", "t", "message"),
    [
        (
            (3, 4, 16),
            (3, 5),
            (3, 1),
            r"x must have shape \(B, 2, L\) with L >= 1, got \(3, 4, 16\)",
        ),
        ((3, 2), (3, 5), (3, 1), r"x must have shape"),
        ((3, 2, 0), (3, 5), (3, 1), r"x must have shape"),
        ((3, 2, 16), (3, 4), (3, 1), r"label must have shape .* \(3, 5\), got \(3, 4\)"),
        ((3, 2, 16), (2, 5), (3, 1), r"label must have shape .* \(3, 5\), got \(2, 5\)"),
        ((3, 2, 16), None, (3, 1), r"label must have shape .* got None"),
        (
            (3, 2, 16),
            (3, 5),
            (3, 1, 1),
            r"steps must have shape \(3, 1\) or \(3,\), got \(3, 1, 1\)",
        ),
        ((3, 2, 16), (3, 5), (), r"steps must have shape"),
    ],
)
def test_wrong_inputs(model, x, y, t, message):
    label = None if y is None else torch.zeros(y)
    with pytest.raises(ValueError, match=message):
        model(torch.zeros(x), label, torch.zeros(t))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"s4_lmx": 16}, "unknown key 's4_lmx' .did you mean 's4_lmax'?"),
        ({"in_channels": 0}, "model.in_channels must be an integer >= 1, got 0"),
        ({"in_channels": -8}, "model.in_channels must be an integer >= 1, got -8"),
        ({"res_channels": "256"}, "model.res_channels must be an integer >= 1, got '256'"),
        ({"res_channels": 25.6}, "model.res_channels must be an integer"),
        ({"res_channels": float("nan")}, "model.res_channels must be an integer >= 1, got nan"),
        ({"res_channels": float("inf")}, "model.res_channels must be an integer >= 1, got inf"),
        ({"res_channels": True}, "model.res_channels must be an integer >= 1, got True"),
        ({"res_channels": None}, "model.res_channels must be an integer >= 1, got None"),
        ({"s4_dropout": float("nan")}, r"model.s4_dropout must be a number in \[0, 1\), got nan"),
        ({"s4_dropout": -0.1}, r"model.s4_dropout must be a number in \[0, 1\), got -0.1"),
        ({"s4_dropout": 1}, r"model.s4_dropout must be a number in \[0, 1\), got 1"),
        ({"s4_bidirectional": 2}, "model.s4_bidirectional must be true, false, 1 or 0, got 2"),
        ({"s4_d_state": 5}, "model.s4_d_state must be even, got 5"),
        ({"diffusion_step_embed_dim_in": 2}, "must be an integer >= 4, got 2"),
        ({"diffusion_step_embed_dim_in": 7}, "diffusion_step_embed_dim_in must be even, got 7"),
        ({"odd_length": "even"}, "model.odd_length must be 'exact' or 'reference', got 'even'"),
    ],
)
def test_wrong_settings(change, message):
    with pytest.raises(ConfigError, match=message):
        SSSDECG(**(SMALL | change))


def test_settings_may_be_whole_floats_and_numbers_for_flags():
    model = SSSDECG(**(SMALL | {"res_channels": 4.0, "s4_layernorm": 0, "s4_bidirectional": 0}))
    assert model.config["model"]["res_channels"] == 4
    assert model.config["model"]["s4_layernorm"] is False
    assert not any("norm_layer" in k for k in model.state_dict())
    assert json.loads(json.dumps(model.config)) == model.config

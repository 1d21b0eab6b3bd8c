"""DSAT-ECG: keys and counts at full size, settings, labels, lengths, copies, errors."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch

from denoiser_checks import old_key
from ecgcore.errors import ConfigError
from ecgcore.models import DSATECG, from_config
from ecgcore.nn.spade_config import SPADE_DEFAULTS
from support import ROOT, need_shared

SMALL = {
    "in_channels": 2,
    "res_channels": 4,
    "skip_channels": 6,
    "num_res_layers": 2,
    "out_channels": 3,
    "diffusion_step_embed_dim_in": 8,
    "diffusion_step_embed_dim_mid": 6,
    "diffusion_step_embed_dim_out": 5,
    "label_embed_classes": 5,
    "label_embed_dim": 7,
}
SPADE = {
    "decoder.attention_heads": 2,
    "decoder.ffn_embed_dim": 12,
    "local_radius": 3,
    "s4_state_dim": 8,
    "max_target_positions": 16,
}


def make(spade: dict | None = None, **changes) -> DSATECG:
    """With a last layer that is not zero, so that the output depends on everything before it."""
    model = DSATECG(**(SMALL | changes), spade_cfg=SPADE | (spade or {}))
    torch.nn.init.normal_(model.final_conv[2].conv.weight)
    return model.eval()


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(3, 2, 16), torch.eye(5)[[0, 3, 4]], torch.tensor([[0], [7], [199]])


@pytest.mark.parametrize("name", ["DSAT_ECG", "DSAT_Sinusoid"])
def test_full_size_model_has_the_references_keys_shapes_and_counts(name):
    table = json.loads(need_shared("fixtures", "full_size_state_dict_shapes.json").read_text())
    expected = table[name]
    with torch.device("meta"):
        model = from_config(ROOT / "configs" / f"{name.lower()}.json")
    assert isinstance(model, DSATECG)
    parameters = dict(model.named_parameters())
    got = {
        old_key(key): [
            list(value.shape),
            str(value.dtype).removeprefix("torch."),
            "param" if key in parameters else "buffer",
        ]
        for key, value in model.state_dict().items()
    }
    assert list(got) == list(expected["state_dict"])
    assert got == expected["state_dict"]
    assert sum(p.numel() for p in parameters.values()) == expected["n_parameters"]
    assert sum(b.numel() for b in model.buffers()) == expected["n_buffer_elements"]


def test_the_reference_s_model_without_any_setting():
    with torch.device("meta"):
        model = DSATECG(label_embed_classes=5)
    assert model.config["spade_cfg"] == SPADE_DEFAULTS
    block = model.residual_layer.residual_blocks[0]
    assert block.spade_1.embed_dim == 512
    assert len(model.residual_layer.residual_blocks) == 4


def test_width_follows_the_residual_stream():
    with torch.device("meta"):
        model = DSATECG(res_channels=48)
    assert model.config["spade_cfg"] == {**SPADE_DEFAULTS, "decoder.embed_dim": 96}


def test_fresh_model_outputs_zero(inputs):
    assert (DSATECG(**SMALL, spade_cfg=SPADE)(*inputs) == 0).all()


def test_output_and_gradients(inputs):
    model = make()
    eps = model(*inputs)
    assert eps.shape == (3, 3, 16)
    eps.square().sum().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert all(name.startswith("residual_layer.residual_blocks.1.res_conv.") for name in without)
    assert len(without) == 3


def test_dropout_in_training_only(inputs):
    model = make()
    assert torch.equal(model(*inputs), model(*inputs))
    model.train()
    assert not torch.equal(model(*inputs), model(*inputs))
    still = make({"dropout": 0.0}).train()
    assert torch.equal(still(*inputs), still(*inputs))


def test_labels_add_up(inputs):
    x, _, t = inputs
    model = make()
    with torch.no_grad():
        model.embedding.weight[0] = model.embedding.weight[1] + model.embedding.weight[2]
    multi, one = torch.zeros(2, 3, 5)
    multi[:, 1:3] = 1
    one[:, 0] = 1
    torch.testing.assert_close(model(x, multi, t), model(x, one, t))


def test_model_without_classes(inputs):
    x, y, t = inputs
    model = make(label_embed_classes=0)
    # The reference makes the embedding all the same, and a file of its holds the key.
    assert model.state_dict()["embedding.weight"].shape == (0, 7)
    assert not any("fc_label" in k for k in model.state_dict())
    assert model(x, None, t).shape == (3, 3, 16)
    with pytest.raises(ValueError, match="DSATECG: label must be None, this model has no classes"):
        model(x, y, t)
    model(x, None, t).sum().backward()


@pytest.mark.parametrize("length", [1, 7, 16, 17, 50])
def test_any_length(inputs, length):
    _, y, t = inputs
    model = make()
    eps = model(torch.randn(3, 2, length), y, t)
    assert eps.shape == (3, 3, length)
    assert torch.isfinite(eps).all()
    kernel = model.residual_layer.residual_blocks[0].spade_1.s4_module.s4.kernel.kernel
    assert kernel.internal_length == 16  # cut, not doubled


def test_records_of_a_batch_do_not_see_each_other(inputs):
    x, y, t = inputs
    model = make()
    together = model(x, y, t)
    for i in range(3):
        alone = model(x[i : i + 1], y[i : i + 1], t[i : i + 1])
        torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-4, atol=1e-5)


def test_survives_copying_pickling_and_changes_of_precision(inputs):
    x, y, t = inputs
    model = make()
    with torch.no_grad():
        expected = model(x, y, t)
        assert torch.equal(copy.deepcopy(model)(x, y, t), expected)
        other = pickle.loads(pickle.dumps(model))
        assert torch.equal(other(x, y, t), expected)
        assert other.config == model.config
        wide = other.double()(x.double(), y, t)
        torch.testing.assert_close(wide.float(), expected, rtol=1e-4, atol=1e-5)


def test_both_weight_norm_styles_load(inputs):
    model = make()
    model(*inputs)
    old = {old_key(key): value for key, value in model.state_dict().items()}
    assert old.keys() != model.state_dict().keys()
    other = make()
    other.load_state_dict(old)
    assert torch.equal(other(*inputs), model(*inputs))


def test_a_config_repeats_the_model(inputs):
    model = make({"s4_lr": {"A": 0.0}, "scale_fc": 1, "local_radius": 5.0}, exact_nodes=False)
    config = json.loads(json.dumps(model.config))
    assert config["spade_cfg"]["local_radius"] == 5
    assert config["model"]["exact_nodes"] is False
    again = from_config(config)
    assert again.config == model.config
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(*inputs), model(*inputs))
    kernel = model.residual_layer.residual_blocks[1].spade_2.s4_module.s4.kernel.kernel
    assert "P" in dict(kernel.named_buffers())


def test_the_section_of_a_config():
    config = {"model": SMALL, "spade_cfg": SPADE, "diffusion": {"T": 3}}
    model = from_config(config)
    assert isinstance(model, DSATECG)
    assert model.residual_layer.residual_blocks[0].spade_1.self_attn.block_length == 4
    assert model.config["spade_cfg"] == {**SPADE_DEFAULTS, "decoder.embed_dim": 8, **SPADE}
    assert "spade_cfg" not in model.config["model"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"spade_cfg": {"local_radios": 3}}, "spade_cfg: .*'local_radios'; did you mean 'local_ra"),
        ({"spade_cfg": {"local_radius": "3"}}, "spade_cfg: .*local_radius must be an integer"),
        ({"spade_cfg": {"decoder.embed_dim": 512}}, r"must be 2 \* res_channels = 8, got 512"),
        ({"spade_cfg": {"decoder.attention_heads": 3}}, "spade_cfg: .*multiple of num_heads, got"),
        ({"spade_cfg": {"scale_heads": True}}, "spade_cfg: .*scale_heads goes with"),
        ({"spade_cfg": {"s4_state_dim": 5}}, "spade_cfg: .*even"),
        ({"spade_cfg": {"s4_lr": "fast"}}, "spade_cfg: "),
        ({"spade_cfg": [1]}, "section 'spade_cfg' must be an object"),
        ({"model": SMALL | {"spade_cfg": {}}}, "model: 'spade_cfg' is a section of its own"),
        ({"model": SMALL | {"s4_dropout": 0.1}}, "model: unknown key 's4_dropout'"),
        ({"model": SMALL | {"num_res_layers": 0}}, "model.num_res_layers must be an integer >= 1"),
        ({"model": SMALL | {"exact_nodes": "no"}}, "model.exact_nodes must be true, false"),
    ],
)
def test_wrong_settings(config, message):
    with pytest.raises(ConfigError, match=message):
        from_config({"model_name": "DSATECG", "model": SMALL} | config)


def test_wrong_inputs(inputs):
    x, y, t = inputs
    model = make()
    for given, message in [
        ((x[:, :1], y, t), r"DSATECG: x must have shape \(B, 2, L\)"),
        ((x, y[:2], t), r"DSATECG: label must have shape"),
        ((x, None, t), r"DSATECG: label must have shape .* got None"),
        ((x, y, t[:2]), r"DSATECG: steps must have shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            model(*given)
    with pytest.raises(ConfigError, match="spade_cfg must be an object, got 3"):
        DSATECG(spade_cfg=3)

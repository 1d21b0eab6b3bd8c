"""Foreign state dicts: recorded ones, our own in foreign layouts, shapes of the published sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ecgcore import compat, models
from ecgcore.data.classes import SCP_CODES, SUPERCLASSES
from ecgcore.errors import CheckpointError, ConfigError
from support import on_meta, published, recorded, recorded_names
from tiny import SETTINGS, noise_of, tiny_sssd

S41 = "residual_layer.residual_blocks.0.S41.s4_layer.kernel.kernel"


@pytest.mark.parametrize("name", recorded_names("sssd__*", "sssd_orig__*"))
def test_recorded_models_come_out_of_their_tensors_alone(name: str) -> None:
    fixture = recorded(name)
    expected = fixture.config["kwargs"]
    lengths = {"state": expected["s4_lmax"]}
    if "doubling" in name:
        lengths = {"state_pre": expected["s4_lmax"], "state": 2 * expected["s4_lmax"]}
    for prefix, length in lengths.items():
        state = fixture.under(prefix)
        model_name, config, converted, report = compat.convert_state_dict(state)
        assert model_name == "SSSDECG"
        assert config["model"] == {**expected, "s4_lmax": length}
        assert config["diffusion"] == {"T": 200, "beta_0": 1e-4, "beta_T": 0.02}
        assert report.kept == len(state)
        assert compat.convert_state_dict(state, config={"model": expected})[1] == config
        assert not report.dropped

        model = models.from_config(config).eval()
        model.load_state_dict(converted)
        with torch.no_grad():
            eps = model(fixture["in/x"], fixture["in/y"], fixture["in/t"])
        wanted = fixture["out/eps"]
        assert (eps - wanted).abs().max() <= 5e-6 * wanted.abs().max()


@pytest.mark.parametrize("name", ["SSSD_ECG", "SSSD_Sinusoid", "SSSD_ECG_original_AI4HealthUOL"])
def test_published_sizes_are_read_off_the_shapes(name: str) -> None:
    entry = published(name)
    _, config, converted, _ = compat.convert_state_dict(on_meta(entry))
    assert config["model"] == entry["kwargs"]
    assert len(converted) == entry["n_keys"] == 1417


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("cond_wavegan_star_ECG/D", "the discriminator .* without its generator"),
        ("cond_pulse2pulse_Sinusoid/D", "the discriminator .* without its generator"),
    ],
)
def test_models_that_cannot_be_built_are_named(name: str, title: str) -> None:
    with pytest.raises(CheckpointError, match=title):
        compat.convert_state_dict(on_meta(published(name)))


def test_other_models_are_known_without_the_fixtures() -> None:
    def tensors(*keys: str) -> dict[str, torch.Tensor]:
        return {key: torch.zeros(1) for key in keys}

    critic = tensors("conv1.weight", "conv6.weight", "fc1.weight")
    with pytest.raises(CheckpointError, match="without its generator"):
        compat.convert_state_dict(critic)
    dsat = tensors("residual_layer.residual_blocks.0.spade_2.fc1.weight")
    with pytest.raises(CheckpointError, match="DSAT-ECG"):
        compat.convert_state_dict(dsat)


@pytest.mark.parametrize("weight_norm", ["new", "old"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"s4_bidirectional": False, "s4_layernorm": False},
        {"label_embed_classes": 71, "in_channels": 12, "out_channels": 12},
        {"label_embed_classes": 0},
        {"s4_lmax": 37},
        {"s4_lmax": 1},
    ],
)
def test_our_own_model_in_a_foreign_layout(
    changes: dict[str, Any], prefix: str, weight_norm: str
) -> None:
    model = tiny_sssd(odd_length="reference", **changes)
    exported = compat.export_state_dict(model, weight_norm=weight_norm)
    old = [key for key in exported if key.endswith((".weight_g", ".weight_v"))]
    assert len(old) == (16 if weight_norm == "old" else 0)

    foreign = {prefix + key: tensor for key, tensor in exported.items()}
    wrapped = {"model_state_dict": foreign, "optimizer_state_dict": {"state": {}}, "epoch": 3}
    _, config, state, report = compat.convert_state_dict(wrapped)
    assert report.dropped == {
        "optimizer_state_dict": "state of the optimiser",
        "epoch": "not part of the model",
    }
    assert len(report.renamed) == (len(foreign) if prefix else len(old))
    odd = model.config["model"]["s4_lmax"] % 2 == 1
    assert config["model"].get("odd_length", "exact") == ("reference" if odd else "exact")
    again = models.from_config(config).eval()
    again.load_state_dict(state)
    assert isinstance(again, models.SSSDECG)
    assert torch.equal(noise_of(again, 31), noise_of(model, 31))


def test_a_kernel_doubled_alone_is_taken_as_it_is() -> None:
    model = tiny_sssd()
    model.get_submodule(S41).double_length()  # type: ignore[operator]
    _, config, state, _ = compat.convert_state_dict(compat.export_state_dict(model))
    assert config["model"]["s4_lmax"] == 80
    again = models.from_config(config).eval()
    again.load_state_dict(state)
    assert isinstance(again, models.SSSDECG)
    assert again.state_dict()[f"{S41}.omega"].shape == (41, 2)
    assert again.state_dict()[f"{S41.replace('S41', 'S42')}.omega"].shape == (21, 2)
    assert torch.equal(noise_of(again), noise_of(model))


def test_half_of_a_state_dict_and_too_much_of_one() -> None:
    state = compat.export_state_dict(tiny_sssd())
    del state["final_conv.0.conv.bias"], state["residual_layer.residual_blocks.1.fc_t.bias"]
    state["extra.weight"] = torch.zeros(2)
    state[f"{S41}.B"] = torch.zeros(1, 12, 3, 2)
    with pytest.raises(CheckpointError) as caught:
        compat.convert_state_dict(state)
    for part in (
        "final_conv.0.conv.bias (4,) is missing",
        "residual_blocks.1.fc_t.bias (6,) is missing",
        "extra.weight (2,) has no place",
        f"{S41}.B has shape (1, 12, 3, 2), the model needs (1, 12, 2, 2)",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({f"{S41}.C": None}, "kernel.C is missing"),
        ({f"{S41}.C": torch.zeros(3)}, "4 dimensions"),
        ({f"{S41}.omega": torch.zeros(())}, "shape"),
        ({"residual_layer.residual_blocks.1000000000.fc_t.bias": torch.zeros(6)}, "numbered"),
    ],
)
def test_tensors_that_no_size_can_be_read_from(change: dict[str, Any], match: str) -> None:
    state = {**compat.export_state_dict(tiny_sssd()), **change}
    with pytest.raises(CheckpointError, match=match):
        compat.convert_state_dict({k: v for k, v in state.items() if v is not None})


def test_config_tells_what_tensors_do_not() -> None:
    state = compat.export_state_dict(tiny_sssd())
    config = {
        "diffusion_config": {"T": 30, "beta_0": 1e-3, "beta_T": 0.05},
        "wavenet_config": {"s4_dropout": 0.1, "s4_lmax": 40, "num_res_layers": 2},
        "trainset_config": {"segment_length": 32, "sampling_rate": 50},
    }
    _, full, _, _ = compat.convert_state_dict(state, config=config)
    assert full["diffusion"] == config["diffusion_config"]
    assert full["dataset"] == config["trainset_config"]
    assert full["model"] == {
        **SETTINGS,
        "s4_dropout": 0.1,
        "s4_bidirectional": True,
        "s4_layernorm": True,
    }
    assert "wavenet_config" in config  # left alone
    only_steps = compat.convert_state_dict(state, config={"diffusion": {"T": 7}})[1]
    assert only_steps["diffusion"] == {"T": 7, "beta_0": 1e-4, "beta_T": 0.02}


@pytest.mark.parametrize(
    ("config", "error", "match"),
    [
        ({"model": {"res_channels": 256, "s4_lmax": 41}}, CheckpointError, "res_channels is 256"),
        ({"model": {"s4_lmax": 41}}, CheckpointError, "s4_lmax is 41, .*omega has the nodes of 40"),
        ({"model": {"s4_lmax": "40"}}, CheckpointError, "s4_lmax is '40'"),
        ({"model_name": "P2PGenerator"}, CheckpointError, "config is for P2PGenerator"),
        ({"spade_cfg": {}}, CheckpointError, "config is for DSATECG, the checkpoint holds SSSD"),
        ({"model": {"num_channels": 8}, "generator": {}}, CheckpointError, "WaveGAN"),
        ({"model": {"s4_dropuot": 0.1}}, ConfigError, "s4_dropout"),
        ({"diffusion": {"T": 0}}, ConfigError, "diffusion.T"),
    ],
)
def test_config_that_does_not_fit(config: dict[str, Any], error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        compat.convert_state_dict(compat.export_state_dict(tiny_sssd()), config=config)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({}, "no dict of tensors"),
        ({"weight": torch.zeros(2)}, "no model known to ecgcore has such tensors"),
        ({"weight": 3}, "'weight' is int"),
        ({"model_state_dict": [1]}, "no dict of tensors"),
        ([torch.zeros(2)], "holds list"),
    ],
)
def test_what_is_no_state_dict(content: Any, match: str) -> None:
    with pytest.raises(CheckpointError, match=match):
        compat.convert_state_dict(content)


def test_the_label_columns_of_the_published_weights() -> None:
    assert SUPERCLASSES == ("CD", "HYP", "MI", "NORM", "STTC")
    assert len(SCP_CODES) == 71
    assert list(SCP_CODES) == sorted(SCP_CODES)


def test_export_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="weight_norm must be 'old' or 'new', got 'other'"):
        compat.export_state_dict(tiny_sssd(), weight_norm="other")  # type: ignore[arg-type]

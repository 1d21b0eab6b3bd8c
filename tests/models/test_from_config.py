"""Models from JSON: the reference's files, AI4H's section names, and every way to get it wrong."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from ecgcore.errors import ConfigError
from ecgcore.models import SSSDECG, from_config, read_config
from support import ROOT

TINY = {
    "in_channels": 8,
    "res_channels": 4,
    "skip_channels": 4,
    "num_res_layers": 1,
    "out_channels": 8,
    "diffusion_step_embed_dim_in": 4,
    "diffusion_step_embed_dim_mid": 4,
    "diffusion_step_embed_dim_out": 4,
    "s4_lmax": 16,
    "s4_d_state": 4,
    "s4_dropout": 0.0,
    "s4_bidirectional": 1,
    "s4_layernorm": 1,
    "label_embed_classes": 5,
    "label_embed_dim": 4,
}
CONFIG = {
    "diffusion": {"T": 20, "beta_0": 0.0001, "beta_T": 0.02},
    "model": TINY,
    "train": {"batch_size": 16},
    "experiment": {"project": "ECG"},
}


def test_builds_from_a_mapping_and_says_so_in_config():
    before = copy.deepcopy(CONFIG)
    model = from_config(CONFIG)
    assert isinstance(model, SSSDECG)
    assert before == CONFIG
    assert model.config["model_name"] == "SSSDECG"
    assert model.config["diffusion"] == CONFIG["diffusion"]
    assert model.config["train"] == CONFIG["train"]
    assert model.config["model"] == TINY | {"s4_bidirectional": True, "s4_layernorm": True}
    again = from_config(json.loads(json.dumps(model.config)))
    assert again.config == model.config
    again.load_state_dict(model.state_dict())


def test_missing_keys_take_the_defaults():
    with torch.device("meta"):
        model = from_config({"model_name": "SSSDECG"})
    assert model.config["model"]["num_res_layers"] == 36
    assert model.config["model"]["label_embed_classes"] == 0


def test_switches_are_kept():
    config = CONFIG | {"model": TINY | {"exact_nodes": True, "odd_length": "reference"}}
    model = from_config(config)
    kernel = model.residual_layer.residual_blocks[0].S41.s4_layer.kernel.kernel
    assert kernel.exact_nodes
    assert kernel.odd_length == "reference"
    assert from_config(model.config).config == model.config


def test_names_of_the_original_repository(tmp_path):
    path = tmp_path / "SSSD_ECG.json"
    text = json.dumps(
        {
            "diffusion_config": CONFIG["diffusion"],
            "wavenet_config": TINY | {"label_embed_classes": 71},
            "train_config": {"output_directory": "sssd_label_cond", "n_iters": 100000},
            "trainset_config": {"segment_length": 1000, "data_path": "a, } path"},
            "gen_config": {"output_directory": "sssd_label_cond", "ckpt_path": "sssd_label_cond"},
        },
        indent=2,
    )
    path.write_text(text.replace("\n  }", ",\n  }"))  # its own file ends sections on a comma
    model = from_config(path)
    assert model.num_classes == 71
    assert model.config["diffusion"] == CONFIG["diffusion"]
    assert model.config["dataset"]["data_path"] == "a, } path"
    assert "wavenet_config" not in model.config


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("sssd_ecg", "SSSDECG"),
        ("sssd_sinusoid", "SSSDECG"),
        ("dsat_ecg", "DSATECG"),
        ("dsat_sinusoid", "DSATECG"),
        ("wavegan_star_ecg", "CondWaveGANGenerator"),
        ("wavegan_star_sinusoid", "CondWaveGANGenerator"),
        ("pulse2pulse_ecg", "CondP2PGenerator"),
        ("pulse2pulse_sinusoid", "CondP2PGenerator"),
    ],
)
def test_reference_configs(file, name):
    config = json.loads((ROOT / "configs" / f"{file}.json").read_text())
    assert config.pop("model_name") == name
    assert read_config(config)["model_name"] == name  # as the reference has it: inferred
    with torch.device("meta"):
        assert type(from_config(config)).__name__ == name


def with_(**changes):
    return CONFIG | changes


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (with_(model=TINY | {"s4_dstate": 4}), "model: unknown key 's4_dstate' .*'s4_d_state'"),
        (with_(model=TINY | {"xyz": 4}), "model: unknown key 'xyz' .did you mean '"),
        (with_(diffusions={}), "config: unknown key 'diffusions' .did you mean 'diffusion'?"),
        (with_(diffusion={"T": 20, "beta0": 0.1}), "diffusion: unknown key 'beta0' .*'beta_0'"),
        (with_(diffusion={"T": 0}), "diffusion.T must be an integer >= 1, got 0"),
        (with_(diffusion={"T": "200"}), "diffusion.T must be an integer >= 1, got '200'"),
        (with_(diffusion={"beta_T": float("nan")}), "diffusion.beta_T must be a number"),
        (with_(diffusion={"beta_T": 2}), "diffusion.beta_T must be a number"),
        (with_(diffusion={"beta_0": 0}), "diffusion.beta_0 must lie in .0, 1., got 0"),
        (with_(diffusion=[1]), r"section 'diffusion' must be an object, got \[1\]"),
        (with_(model=TINY | {"num_res_layers": -3}), "num_res_layers must be an integer >= 1"),
        (with_(model="tiny"), "section 'model' must be an object, got 'tiny'"),
        (with_(model_name="SSSD_ECG"), "unknown model_name 'SSSD_ECG' .did you mean 'SSSDECG'?"),
        (with_(model_name=7), "unknown model_name 7"),
        (with_(model_name="DSATECG"), "model: unknown key 's4_lmax'"),
        (with_(spade_cfg={}), "model: unknown key 's4_lmax'"),
        (
            with_(spade_cfg={}, model_name="SSSDECG"),
            "section 'spade_cfg' is for DSATECG, not for SSSDECG",
        ),
        (with_(wavenet_config=TINY), "'wavenet_config' and 'model' are the same section"),
        ({"train": {}}, "neither a 'model_name' nor a 'model' section"),
        ({"model": {"width": 7}}, "the model cannot be told from its keys"),
    ],
)
def test_wrong_configs(config, message):
    with pytest.raises(ConfigError, match=message):
        from_config(config)


def test_files_that_are_no_config(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.json"):
        from_config(tmp_path / "absent.json")
    with pytest.raises(ConfigError, match="a folder, a JSON file is needed"):
        from_config(tmp_path)
    path = tmp_path / "c.json"
    for content, message in [
        (b'{"model": {', "c.json: not valid JSON: .* line 1 column 12"),
        (b"[1, 2]", "a JSON object is needed, got list"),
        (b"\xff\xfe\x00", "not a text file"),
        (b'{"model": {"s4_lmax": NaN}}', "model.s4_lmax must be an integer >= 1, got nan"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            from_config(str(path))

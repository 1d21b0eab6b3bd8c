"""GAN checkpoints: recorded ones, our own in the references' layout, the published deepfake-ecg."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import ecgcore
from ecgcore import compat, models
from ecgcore.data.classes import SCP_CODES, SUPERCLASSES
from ecgcore.data.leads import REFERENCE_LEADS
from ecgcore.errors import CheckpointError
from support import ON_CI, need_shared, on_meta, published, recorded, recorded_names
from tiny_gan import NAMES, gan_config, signals_of, tiny_gan

NAME = {"model_name": "CondWaveGANGenerator"}
GENERATORS = recorded_names("wavegan_G__*", "p2p_G__*")


def foreign(model: models.Generator, **more: Any) -> dict[str, Any]:
    """A checkpoint as the references' training scripts write it."""
    assert model.discriminator is not None
    return {
        "modelG_state_dict": compat.export_state_dict(model),
        "modelD_state_dict": compat.export_state_dict(model.discriminator),
        "optimizerG_state_dict": {"state": {}},
        "optimizerD_state_dict": {"state": {}},
        **more,
    }


@pytest.mark.parametrize("name", GENERATORS)
def test_recorded_generators(name: str, tmp_path: Path) -> None:
    r = recorded(name)
    state = r.under("state")
    model_name, config, converted, report = compat.convert_state_dict(state)
    assert model_name == r.config["model"]
    found = {**config["model"], **config["generator"]}
    assert found == {"verbose": False, **r.config["kwargs"]}
    assert report.kept + len(report.dropped) == len(state)
    assert all("never uses it" in reason for reason in report.dropped.values())
    assert {key.split(".")[-2] for key in report.dropped} <= {
        *("Conv1dTrans", "ppfilter1", "bn", "embed")
    }
    model = models.from_config(config).eval()
    model.load_state_dict(converted)
    with torch.no_grad():
        out = model(r["in/x"], r["in/y"])
    assert (out - r["out64/eval"]).abs().max() <= 5e-5 * out.abs().max()

    torch.save({"modelG_state_dict": state}, tmp_path / "3.pkl")
    loaded: Any = ecgcore.load(tmp_path / "3.pkl")
    with torch.no_grad():
        assert torch.equal(loaded(r["in/x"], r["in/y"]), out)
    assert loaded.discriminator is None
    card = loaded.card
    assert card.diffusion is None
    assert (card.length, card.fs, card.scale) == (1000, 100, 1)
    names = {5: SUPERCLASSES, 71: SCP_CODES}.get(model.num_classes)
    assert names is None or card.class_names == names
    if model.out_channels == 12:
        assert card.lead_names == REFERENCE_LEADS


@pytest.mark.parametrize("config", ["cond_wavegan_star", "cond_pulse2pulse"])
@pytest.mark.parametrize("data", ["ECG", "Sinusoid"])
def test_published_sizes_are_read_off_the_shapes(config: str, data: str) -> None:
    generator, critic = (published(f"{config}_{data}/{n}") for n in "GD")
    both = {"modelG_state_dict": on_meta(generator), "modelD_state_dict": on_meta(critic)}
    name, found, converted, report = compat.convert_state_dict(both)
    assert name == generator["cls"]
    assert {**found["model"], **found["generator"]} == generator["kwargs"]
    assert {**found["model"], **found["discriminator"]} == {**critic["kwargs"], "length": 1000}
    assert len(converted) + len(report.dropped) == generator["n_keys"] + critic["n_keys"]


@pytest.mark.parametrize("name", ["WaveGAN_G", "P2P_G"])
def test_the_original_repositorys_generators(name: str) -> None:
    entry = published(f"{name}_original_AI4HealthUOL")
    _, config, _, _ = compat.convert_state_dict({"netG_state_dict": on_meta(entry), "epoch": 3000})
    assert config["generator"]["label_embed_classes"] == 71
    assert config["model"]["model_size"] == 50


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
@pytest.mark.parametrize("name", NAMES)
def test_our_own_pair_in_the_references_layout(name: str, prefix: str, tmp_path: Path) -> None:
    model = tiny_gan(name)
    content = foreign(model, epoch=3)
    for key in ("modelG_state_dict", "modelD_state_dict"):
        content[key] = {prefix + k: v for k, v in content[key].items()}
    torch.save(content, tmp_path / "7.pkl")
    again: Any = ecgcore.load(tmp_path / "7.pkl", config={"discriminator": {"shift_factor": 1}})
    assert type(again) is type(model)
    assert torch.equal(signals_of(again), signals_of(model))
    x, shifts = torch.randn(2, 8, 500), torch.ones(5, 2, dtype=torch.int64)
    assert model.discriminator is not None
    assert torch.equal(again.discriminator(x, shifts), model.discriminator(x, shifts))
    assert not again.training
    assert not again.discriminator.training
    assert again.config["discriminator"]["shift_factor"] == 1
    dropped = again.report.dropped
    assert dropped["optimizerG_state_dict"] == "state of the optimiser"
    assert dropped["epoch"] == "not part of the model"
    assert f"{prefix}deconv_2.Conv1dTrans.weight" in dropped


@pytest.mark.parametrize("name", NAMES)
def test_export_has_the_references_keys_in_their_order(name: str) -> None:
    wanted = published(
        {NAMES[0]: "cond_wavegan_star_ECG/G", NAMES[1]: "cond_pulse2pulse_ECG/G"}[name]
    )["state_dict"]
    file = {NAMES[0]: "wavegan_star_ecg", NAMES[1]: "pulse2pulse_ecg"}[name]
    model = models.from_config(Path(__file__).parents[2] / "configs" / f"{file}.json")
    exported = compat.export_state_dict(model)
    assert list(exported) == list(wanted)
    for key, (shape, dtype, _) in wanted.items():
        assert list(exported[key].shape) == shape
        assert exported[key].dtype == getattr(torch, dtype)


@pytest.mark.parametrize("name", NAMES)
def test_a_pair_of_ours_comes_back(name: str, tmp_path: Path) -> None:
    model = tiny_gan(name)
    path = tmp_path / "a.safetensors"
    ecgcore.save(model.train(), path)
    before = torch.get_rng_state()
    again: Any = ecgcore.load(path)
    assert torch.equal(torch.get_rng_state(), before)
    assert again.config == model.config
    for key, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key
    assert again.card.length == 500
    assert again.card.diffusion is None

    alone = tiny_gan(name, critic=False)
    ecgcore.save(alone, path)
    again = ecgcore.load(path)
    assert again.discriminator is None
    assert torch.equal(signals_of(again), signals_of(alone))


def test_a_file_without_the_critic_of_its_config(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    model = tiny_gan()
    ecgcore.save(model, path)
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    kept = {k: v for k, v in load_file(path).items() if not k.startswith("discriminator.")}
    save_file(kept, path, metadata)
    with pytest.raises(CheckpointError, match="its config has a critic, but the file has no tens"):
        ecgcore.load(path)


def test_a_config_for_both_and_tensors_of_one() -> None:
    model = tiny_gan(critic=False)
    state = compat.export_state_dict(model)
    _, config, converted, _ = compat.convert_state_dict(state, config=gan_config())
    assert "discriminator" not in config
    models.from_config(config).load_state_dict(converted)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (NAME | {"model": {"model_size": 6}}, "model.model_size is 6, the tensors show 5"),
        ({"generator": {"latent_dim": 7}}, "generator.latent_dim is 7, the tensors show 6"),
        ({"generator": {"post_proc_filt_len": 0}}, "post_proc_filt_len is 0, the tensors show 16"),
        ({"discriminator": {"length": 1000}}, "signals of 1000 samples, but .*for 250 numbers"),
        ({"dataset": {"segment_length": "x"}}, "signals of 'x' samples"),
        ({"model_name": "CondP2PGenerator"}, "config is for CondP2PGenerator"),
    ],
)
def test_a_config_that_does_not_fit(config: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        compat.convert_state_dict(foreign(tiny_gan()), config=config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc1.bias": None}, r"fc1.bias \(25,\) is missing"),
        ({"fc1.weight": None}, "no model known"),
        ({"fc1.weight": torch.zeros(25)}, r"fc1.weight has shape \(25,\)"),
        ({"deconv_7.conv1d.weight": None}, "deconv_7.conv1d.weight is missing"),
        ({"deconv_9.weight": torch.zeros(2)}, r"deconv_9.weight \(2,\) has no place"),
    ],
)
def test_tensors_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    state = {**compat.export_state_dict(tiny_gan()), **change}
    with pytest.raises(CheckpointError, match=message):
        compat.convert_state_dict({k: v for k, v in state.items() if v is not None})


def test_a_critic_that_no_signal_fits() -> None:
    content = foreign(tiny_gan())
    content["modelD_state_dict"]["fc1.weight"] = torch.zeros(1, 251)
    with pytest.raises(CheckpointError, match="for 251 numbers, which signals of no length give"):
        compat.convert_state_dict(content)
    content["modelD_state_dict"]["fc1.weight"] = torch.zeros(1, 500)
    _, config, _, _ = compat.convert_state_dict(content)
    assert config["discriminator"]["length"] == 1000


# --- deepfake-ecg ---------------------------------------------------------------------------------


def test_deepfake_keys_and_card(tmp_path: Path) -> None:
    model = models.P2PGenerator(model_size=5, post_proc_filt_len=4)
    exported = compat.export_state_dict(model.eval())
    torch.save({"stat_dict": exported}, tmp_path / "g_stat.pt")
    again: Any = ecgcore.load(tmp_path / "g_stat.pt")
    assert set(again.report.dropped) == {
        *("fc1.weight", "fc1.bias", "ppfilter1.weight", "ppfilter1.bias"),
        *(f"deconv_{i}.Conv1dTrans.{k}" for i in (1, 2, 3, 5, 6, 7) for k in ("weight", "bias")),
    }
    assert again.card.lead_names == ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
    assert (again.card.fs, again.card.length, again.card.class_names) == (500, 5000, ())
    noise = torch.rand(1, 8, 2500)
    with torch.no_grad():
        assert torch.equal(again(noise), model(noise))


def test_deepfake_manifest() -> None:
    manifest = json.loads(need_shared("data", "pulse2pulse_pypi_manifest.json").read_text())
    state = {
        key: torch.empty(shape, device="meta") for key, (shape, _) in manifest["tensors"].items()
    }
    name, config, converted, report = compat.convert_state_dict({"stat_dict": state})
    assert name == "P2PGenerator"
    given = {
        "model_size": 50,
        "num_channels": 8,
        "latent_dim": 100,
        "post_proc_filt_len": 512,
    }
    assert config["model"] == {**given, "verbose": False, "upsample": True}
    assert len(converted) + len(report.dropped) == len(state)
    with torch.device("meta"):
        model = models.from_config(config)
    assert list(compat.export_state_dict(model.to_empty(device="cpu"))) == list(state)


@pytest.mark.slow
def test_deepfake_weights_from_the_package_index(tmp_path: Path) -> None:
    """The published weights, fetched, reproduce a recorded output."""
    manifest = json.loads(need_shared("data", "pulse2pulse_pypi_manifest.json").read_text())
    with np.load(need_shared("data", "pulse2pulse_pypi_reference_io.npz")) as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    command = [sys.executable, "-m", "pip", "download", "deepfake-ecg==1.1.2", "--no-deps"]
    made = subprocess.run(
        [*command, "--disable-pip-version-check", "--dest", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    wheels = list(tmp_path.glob("*.whl"))
    if made.returncode or not wheels:
        reason = f"NOT CHECKED: deepfake-ecg could not be fetched: {made.stderr.strip()[-300:]}"
        (pytest.fail if ON_CI else pytest.skip)(reason)
    with zipfile.ZipFile(wheels[0]) as wheel:
        content = wheel.read("deepfakeecg/checkpoints/g_stat.pt")
    assert hashlib.sha256(content).hexdigest() == manifest["sha256"]
    path = tmp_path / "g_stat.pt"
    path.write_bytes(content)
    model: Any = ecgcore.load(path)
    with torch.no_grad():
        out = model(arrays["noise"])
    assert (out - arrays["out"]).abs().max() <= 5e-5 * arrays["out"].abs().max()
    batch = model.sample(noise=arrays["noise"])
    torch.testing.assert_close(batch.x[:, 0], 6 * out[:, 0])  # lead I, in millivolt
    assert batch.fs == 500

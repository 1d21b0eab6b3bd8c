"""Checkpoints of other projects, as their training scripts write them: loaded and sampled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import ecgcore
from ecgcore import compat, diffusion, sampling
from ecgcore.data.classes import SCP_CODES, SUPERCLASSES
from ecgcore.data.leads import REFERENCE_LEADS
from ecgcore.errors import CheckpointError, ConfigError
from ecgcore.testing import relative_error
from support import recorded, recorded_names
from tiny import BETAS, EIGHT, SETTINGS, foreign, noise_of, tiny_sssd


@pytest.mark.parametrize("name", recorded_names("sssd__*", "sssd_orig__*"))
def test_recorded_checkpoints(tmp_path: Path, name: str) -> None:
    fixture = recorded(name)
    for prefix in ("state", "state_pre"):
        if not (state := fixture.under(prefix)):
            continue
        path = tmp_path / f"{prefix}.pkl"
        torch.save({"model_state_dict": state, "optimizer_state_dict": {}}, path)
        model: Any = ecgcore.load(path)
        with torch.no_grad():
            eps = model(fixture["in/x"], fixture["in/y"], fixture["in/t"])
        assert relative_error(eps, fixture["out/eps"]) <= 5e-6
        classes = fixture.config["kwargs"]["label_embed_classes"]
        assert model.card.class_names == (SCP_CODES if classes == 71 else SUPERCLASSES)
        channels = fixture.config["kwargs"]["in_channels"]
        assert model.card.lead_names == (EIGHT if channels == 8 else REFERENCE_LEADS)
        assert model.card.diffusion == {"T": 200} | BETAS


def test_recorded_trajectory_from_a_checkpoint(tmp_path: Path) -> None:
    fixture = recorded("sssd__res16_L1000")
    torch.save({"model_state_dict": fixture.under("state")}, tmp_path / "1.pkl")
    T = fixture.config["traj_T"]
    model: Any = ecgcore.load(tmp_path / "1.pkl", config={"diffusion": {"T": T}})
    noise = fixture["in/traj_noise"]
    x0 = diffusion.sample(
        model,
        tuple(noise.shape[1:]),  # type: ignore[arg-type]
        fixture["in/y"],
        diffusion.NoiseSchedule.linear(**model.card.diffusion),
        noise=noise,
    )
    assert relative_error(x0, fixture["out/traj_x0"]) <= 1e-5


def test_recorded_seeded_samples_from_a_checkpoint(tmp_path: Path) -> None:
    fixture = recorded("sssd_orig__res16_L128_cls71")
    torch.save({"model_state_dict": fixture.under("state")}, tmp_path / "100000.pkl")
    config = {"diffusion_config": {"T": 5, "beta_0": 1e-4, "beta_T": 0.02}}
    model: Any = ecgcore.load(tmp_path / "100000.pkl", config=config)
    schedule = diffusion.NoiseSchedule.linear(**model.card.diffusion)
    torch.manual_seed(99)
    x = diffusion.sample(model, (2, 8, 128), fixture["in/y"], schedule)
    assert relative_error(x, fixture["out/sample_T5_seed99"]) <= 1e-5


@pytest.mark.parametrize("weight_norm", ["new", "old"])
@pytest.mark.parametrize("suffix", [".pkl", ".pt", ".pth"])
def test_a_foreign_checkpoint_samples_in_three_lines(
    tmp_path: Path, weight_norm: str, suffix: str
) -> None:
    model = tiny_sssd()
    path = foreign(tmp_path / f"12{suffix}", model, weight_norm)
    again: Any = ecgcore.load(path, config={"diffusion": {"T": 4}})
    batch = again.sample("MI", n=2, seed=1)
    assert batch.x.shape == (2, 12, 40)
    model.card = again.card
    assert torch.equal(sampling.sample(model, "MI", n=2, seed=1).x, batch.x)


def test_a_foreign_state_dict_in_safetensors(tmp_path: Path) -> None:
    model = tiny_sssd()
    save_file(compat.export_state_dict(model, weight_norm="old"), tmp_path / "a.safetensors")
    assert torch.equal(noise_of(ecgcore.load(tmp_path / "a.safetensors")), noise_of(model))  # type: ignore[arg-type]


def test_odd_internal_length_is_computed_as_it_was_trained(tmp_path: Path) -> None:
    path = foreign(tmp_path / "1.pkl", tiny_sssd(s4_lmax=37))
    assert ecgcore.load(path).config["model"]["odd_length"] == "reference"  # type: ignore[index, call-overload]
    exact = {"model": {**SETTINGS, "s4_lmax": 37, "odd_length": "exact"}}
    a, b = (noise_of(ecgcore.load(path, config=c), 37) for c in (None, exact))  # type: ignore[arg-type]
    assert relative_error(a, b) > 1e-3


def test_a_config_beside_the_file_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "run_1"
    foreign(folder / "3.pkl", tiny_sssd())
    (folder / "notes.json").write_text("[1, 2]")
    config = {"diffusion": {"T": 11} | BETAS, "model": SETTINGS}
    (folder / "config_ECG_SSSD.json").write_text(json.dumps(config))
    assert ecgcore.load(folder / "3.pkl").card.diffusion["T"] == 11  # type: ignore[index, call-overload]

    (folder / "config_ECG_DSAT.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"several configs.*say which"):
        ecgcore.load(folder / "3.pkl")
    model: Any = ecgcore.load(folder / "3.pkl", config=folder / "config_ECG_DSAT.json")
    assert model.card.diffusion["T"] == 11
    (folder / "config.json").write_text(json.dumps({**config, "diffusion": {"T": 5}}))
    assert ecgcore.load(folder / "3.pkl").card.diffusion["T"] == 5  # type: ignore[index, call-overload]
    (folder / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json, beside the checkpoint: not valid JSON"):
        ecgcore.load(folder / "3.pkl")
    other = {**config, "model": {**SETTINGS, "res_channels": 7}}
    (folder / "3.json").write_text(json.dumps(other))
    with pytest.raises(CheckpointError, match=r"res_channels is 7.*3\.json, beside it"):
        ecgcore.load(folder / "3.pkl")


def test_a_synthecg_run_folder_gives_its_last_checkpoint(tmp_path: Path) -> None:
    models = {n: tiny_sssd() for n in (2, 10, 9)}
    for n, model in models.items():
        foreign(tmp_path / "run_1" / f"{n}.pkl", model)
    (tmp_path / "run_1" / "best.pkl").write_bytes(b"")
    assert torch.equal(noise_of(ecgcore.load(tmp_path / "run_1")), noise_of(models[10]))  # type: ignore[arg-type]

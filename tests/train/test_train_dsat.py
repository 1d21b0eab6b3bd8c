"""Training DSAT-ECG: stops and continues bit for bit; its lazy length correction comes first."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ecgcore import checkpoint
from ecgcore.cli import main
from ecgcore.errors import ConfigError
from ecgcore.train import read_log
from ecgcore.train.launch import Plan, build_model, train
from support import need_shared
from train_checks import assert_same_run, state, stop_at

KERNEL = "residual_layer.residual_blocks.0.spade_1.s4_module.s4.kernel.kernel"


def test_a_stopped_run_continues_to_the_same_weights(dsat_plan: Plan, tmp_path: Path) -> None:
    train(dsat_plan, tmp_path / "whole")
    _, part = train(dsat_plan, tmp_path / "parts", callback=stop_at(5))
    assert (part.step, part.interrupted) == (6, True)
    train(dsat_plan, tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_averages_are_of_corrected_kernels(dsat_plan: Plan, tmp_path: Path) -> None:
    """A copy of ``C`` from before its first forward would be the plain one: the average of it and
    of what is trained is neither."""
    fresh = build_model(dsat_plan).state_dict()
    assert fresh[f"{KERNEL}.L"] == 0
    train(dsat_plan.replace(max_steps=1, learning_rate=1e-12), tmp_path)
    saved = state(tmp_path)
    trained, average = saved["model"][f"{KERNEL}.C"], saved["average"][f"{KERNEL}.C"]
    assert saved["model"][f"{KERNEL}.L"] == 256
    torch.testing.assert_close(average, trained, rtol=0, atol=1e-9)
    assert (average - fresh[f"{KERNEL}.C"]).abs().max() > 1e-3
    sampled = checkpoint.load(tmp_path).state_dict()
    assert torch.equal(sampled[f"{KERNEL}.C"], average)
    assert sampled[f"{KERNEL}.L"] == 256


def test_the_optimiser_begins_on_corrected_kernels(dsat_plan: Plan, tmp_path: Path) -> None:
    """Two steps of Adam move ``C`` by at most twice the learning rate from its corrected values.

    One moves it not at all: the last layer is zero then and lets no gradient through.
    """
    plan = dsat_plan.replace(max_steps=2, learning_rate=1e-3)
    plan = dataclasses.replace(plan, train=dataclasses.replace(plan.train, warmup=0, ema=None))
    start: Any = build_model(plan)
    kernel = start.get_submodule(KERNEL)
    kernel.reserve()
    train(plan, tmp_path)
    moved = (state(tmp_path)["model"][f"{KERNEL}.C"] - kernel.C.detach()).abs()
    assert 0 < moved.max() <= 2.01e-3


def test_averages_of_an_sssd_whose_records_double_its_kernels(plan: Plan, tmp_path: Path) -> None:
    plan.model["model"] |= {"s4_lmax": 50}  # the records have 100 samples
    train(plan.replace(max_steps=1, learning_rate=1e-12), tmp_path)
    saved = state(tmp_path)
    key = "residual_layer.residual_blocks.0.S41.s4_layer.kernel.kernel.C"
    torch.testing.assert_close(saved["average"][key], saved["model"][key], rtol=0, atol=1e-9)


def test_other_spade_settings_do_not_continue_a_run(dsat_plan: Plan, tmp_path: Path) -> None:
    train(dsat_plan.replace(max_steps=1), tmp_path)
    other = dsat_plan.to_dict()
    other["spade_cfg"] = other["spade_cfg"] | {"local_radius": 15}
    with pytest.raises(ConfigError, match=r"spade_cfg\.local_radius = 31, not 15; choose another"):
        train(other, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["spade_cfg"] == dsat_plan.model["spade_cfg"]


def test_the_whole_way_by_command(dsat_plan: Plan, tmp_path: Path, capsys: Any) -> None:
    records = need_shared("data", "ptbxl_mini")
    config = dsat_plan.to_dict()
    config["dataset"] = {"segment_length": 250, "sampling_rate": 100, "folds": None, "scale": 4.0}
    config["train"] = {"max_steps": 40, "learning_rate": 0.01, "batch_size": 8, "ema": 0.9}
    file, run, out = tmp_path / "dsat.json", tmp_path / "run", tmp_path / "samples"
    file.write_text(json.dumps(config))
    command = ["train", str(file), "--data", str(records), "--out", str(run), "--device", "cpu"]
    assert main([*command, "--max-steps", "25"]) == 0
    assert main(command) == 0
    assert "step 40" in capsys.readouterr().out
    losses = [line["loss"] for line in read_log(run)]
    assert len(losses) == 40
    assert np.mean(losses[-10:]) < 0.95 * np.mean(losses[:5])

    command = ["sample", str(run), "--labels", "MI,NORM", "-n", "2", "--seed", "1"]
    assert main([*command, "--no-sheets", "--out", str(out)]) == 0
    x = np.load(out / "train_data.npy").astype(np.float64)
    assert x.shape == (2, 12, 250)
    assert np.isfinite(x).all()
    I, II, III = x[:, 0], x[:, 1], x[:, 8]
    assert np.abs(I + III - II).max() <= 1e-5 * np.abs(x).max()

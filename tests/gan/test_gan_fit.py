"""Training of the GANs: reproducible, stopped and continued to the same weights, kept in files."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from ecgcore import checkpoint, models
from ecgcore.errors import ConfigError
from ecgcore.gan.config import GANTrainConfig
from ecgcore.gan.train import fit
from ecgcore.train import Progress, read_log, read_section
from ecgcore.train.launch import Plan, build_model, read_records, train
from support import ROOT, need_shared
from tiny_gan import NAMES
from train_checks import assert_same_run, command, environment, state, stop_at

FILE = ROOT / "configs" / "test_gan.json"


def plan_of(name: str = NAMES[0], **settings: Any) -> Plan:
    config = json.loads(FILE.read_text())
    if name == "CondP2PGenerator":
        config["model_name"] = name
        config["model"] = {"model_size": 5, "n_channels": 8}
        del config["generator"]["latent_dim"]
        config["dataset"] |= {"segment_length": 500, "seconds": 6.0}
    return Plan.read(config).replace(**settings)


@pytest.mark.parametrize("name", NAMES)
def test_a_stopped_run_continues_to_the_same_weights(name: str, tmp_path: Path) -> None:
    plan = plan_of(name, log_interval=2)
    random = torch.random.get_rng_state()
    model, whole = train(plan, tmp_path / "whole")
    assert torch.equal(torch.random.get_rng_state(), random)
    assert (whole.step, whole.fraction, whole.interrupted) == (12, 1.0, False)
    for step in (2, 7):
        _, part = train(plan, tmp_path / "parts", callback=stop_at(step))
        assert part.interrupted
        assert part.step == step + 1
    train(plan, tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")

    log = read_log(tmp_path / "whole")
    assert [line["step"] for line in log] == [2, 4, 6, 8, 10, 12]
    assert [line["step"] for line in log if "generator_loss" in line] == [6, 12]
    assert all(line["penalty"] >= 0 and "wasserstein" in line for line in log)

    loaded: Any = checkpoint.load(tmp_path / "whole")
    assert type(loaded).__name__ == name
    assert loaded.discriminator is not None
    averaged = state(tmp_path / "whole")["average"]
    key = "deconv_2.conv1d.weight"
    assert torch.equal(loaded.state_dict()[key], averaged[key])
    assert not any("discriminator" in k for k in averaged)
    assert loaded.card.length == plan.data.segment_length
    assert loaded.card.scale == 0.4
    assert loaded.card.diffusion is None
    batch = loaded.sample("MI", n=2, seed=0)
    assert batch.x.shape == (2, 12, plan.data.segment_length)
    model.eval()
    assert torch.equal(model.sample("MI", n=2, seed=0).x, batch.x)


def test_every_weight_of_both_networks_trains(tmp_path: Path) -> None:
    plan = plan_of(max_steps=3)
    fresh = build_model(plan).state_dict()
    train(plan, tmp_path)
    after = state(tmp_path)["model"]
    still = {k for k, v in after.items() if torch.equal(v, fresh[k])}
    assert still == {"discriminator.fc1.bias"}  # it adds to all scores alike: no gradient


def test_the_reference_counts_anew_in_every_epoch(tmp_path: Path) -> None:
    config = json.loads(FILE.read_text())
    config["train"] |= {"n_critic": 2, "critic_counter": "epoch", "max_steps": 10, "batch_size": 3}
    train(config, tmp_path)  # ten records: three batches of three per epoch
    turns = [line["step"] for line in read_log(tmp_path) if "generator_loss" in line]
    assert turns == [2, 5, 8]
    config["train"]["batch_size"] = 6
    with pytest.raises(ConfigError, match=r"at least n_critic = 2 batches.*10 records make 1 of 6"):
        train(config, tmp_path / "short")


def test_init_takes_a_pair_or_a_generator_alone(tmp_path: Path) -> None:
    train(plan_of(max_steps=3), tmp_path / "first")
    first: Any = checkpoint.load(tmp_path / "first")
    again = build_model(plan_of(init=str(tmp_path / "first"))).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in first.state_dict().items())

    first.discriminator = None
    del first.config["discriminator"]
    checkpoint.save(first, tmp_path / "alone.safetensors")
    started = build_model(plan_of(init=str(tmp_path / "alone.safetensors"))).state_dict()
    fresh = build_model(plan_of()).state_dict()
    for key, value in started.items():
        source = fresh if key.startswith("discriminator.") else first.state_dict()
        assert torch.equal(value, source[key]), key
    with pytest.raises(ConfigError, match=r"do not fit the config's model.*there.*by the config"):
        build_model(plan_of(NAMES[1], init=str(tmp_path / "first")))


def test_the_reference_s_config_is_read() -> None:
    for file in ("wavegan_star_ecg", "pulse2pulse_ecg"):
        plan = Plan.read(ROOT / "configs" / f"{file}.json")
        assert isinstance(plan.train, GANTrainConfig)
        assert (plan.train.beta1, plan.train.beta2, plan.train.lmbda) == (0.5, 0.9, 10.0)
        assert (plan.train.n_critic, plan.train.critic_counter) == (5, "run")
        assert plan.train.steps(records=320) == 3000 * 10
        assert plan.train.with_epochs(2).steps(records=320) == 20
        assert plan.model["discriminator"]["length"] == 1000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta1": 1.0}, "train.beta1: expected at least 0 and below 1, got 1.0"),
        ({"lmbda": -1}, "train.lmbda: expected 0 or more"),
        ({"n_critic": 0}, "train.n_critic: expected at least 1, got 0"),
        ({"critic_counter": "batch"}, "train.critic_counter: expected 'run' or 'epoch'"),
        ({"stratified_steps": True}, "a GAN has no diffusion steps"),
        ({"n_epochs": 3, "epochs": 4}, r"n_epochs \(3\) and epochs \(4\) are two names"),
        ({"n_crit": 3}, "unknown key 'n_crit'; the nearest valid one is 'n_critic'"),
        ({"EPOCH_KEYS": 3}, "unknown key 'EPOCH_KEYS'"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_section(GANTrainConfig, settings, "train")


def test_configs_that_cannot_be_trained() -> None:
    config = json.loads(FILE.read_text())
    with pytest.raises(ConfigError, match="no section 'train'; a GAN needs model and train"):
        Plan.read({k: v for k, v in config.items() if k != "train"})
    with pytest.raises(ConfigError, match="P2PGenerator has no critic here"):
        Plan.read({"model_name": "P2PGenerator", "train": {}})
    config["discriminator"]["length"] = 500
    plan = Plan.read(config)
    model: Any = build_model(plan)
    with pytest.raises(
        ConfigError, match=r"segment_length is 250 samples, discriminator\.length 50"
    ):
        fit(model, read_records(plan, model), plan.train)  # type: ignore[arg-type]
    alone = models.CondWaveGANGenerator(**model.config["model"], **model.config["generator"])
    with pytest.raises(ConfigError, match=r"CondWaveGANGenerator has no critic.*'discriminator'"):
        fit(alone, read_records(plan, model), plan.train)  # type: ignore[arg-type]


@pytest.mark.slow
def test_two_processes_train_together(tmp_path: Path) -> None:
    """They share records and draws and average gradients; batch statistics are each one's own."""
    import subprocess

    made = subprocess.run(
        command("train", str(FILE), "--out", str(tmp_path / "two"), torchrun=2),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    train(Plan.read(FILE), tmp_path / "one")
    one, two = (read_log(tmp_path / name) for name in ("one", "two"))
    assert [line["step"] for line in two] == list(range(1, 13))
    for a, b in zip(one, two, strict=True):
        assert abs(a["penalty"] - b["penalty"]) < 0.5 * a["penalty"]
    key = "discriminator.conv1.weight"
    a, b = (state(tmp_path / name)["model"][key] for name in ("one", "two"))
    fresh = build_model(Plan.read(FILE)).state_dict()[key]
    assert (a - b).norm() < 0.5 * (a - fresh).norm()


@pytest.mark.parametrize("name", NAMES)
def test_training_on_real_records(name: str, tmp_path: Path) -> None:
    plan = plan_of(name, max_steps=6)
    section = {
        "source": "ptbxl",
        "data_directory": str(need_shared("data", "ptbxl_mini")),
        "folds": None,
    }
    plan = plan.replace(data=section)

    def stop(progress: Progress) -> None:
        if progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    _, first = train(plan, tmp_path, callback=stop)
    assert first.interrupted
    _, rest = train(plan, tmp_path)
    assert rest.step == 6
    batch = checkpoint.load(tmp_path).sample(["MI", "NORM"], n=3, seed=1)  # type: ignore[operator]
    assert torch.isfinite(batch.x).all()

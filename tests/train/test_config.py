from __future__ import annotations

import json
from typing import Any

import pytest

from ecgcore.errors import ConfigError
from ecgcore.train import DataConfig, TrainConfig, read_section, write_section
from ecgcore.train.launch import Plan
from support import ROOT

REFERENCE_TRAIN = {
    "ckpt_iter": "max",
    "ckpt_interval": 1,
    "log_interval": 1,
    "n_iters": 1000,
    "learning_rate": 2e-4,
    "batch_size": 16,
    "classifier_path": "models/classifier.pth",
}


def test_the_reference_s_section_is_read_and_counts_epochs() -> None:
    config = read_section(TrainConfig, REFERENCE_TRAIN, "train")
    assert config.learning_rate == 2e-4
    assert config.steps(records=160) == 1000 * 10  # 160 / 16 batches an epoch


def test_the_first_limit_ends_the_run() -> None:
    assert TrainConfig(epochs=3, max_steps=20, batch_size=4).steps(40) == 20
    assert TrainConfig(epochs=3, max_steps=50, batch_size=4).steps(40) == 30
    assert TrainConfig(max_minutes=1.0).steps(40) is None
    with pytest.raises(ConfigError, match="nothing says when to stop"):
        TrainConfig().steps(40)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learnin_rate": 1.0}, "unknown key 'learnin_rate'; the nearest valid one is 'learning_r"),
        ({"learning_rate": "fast"}, "train.learning_rate: expected a finite number, got 'fast'"),
        ({"learning_rate": float("nan")}, "train.learning_rate: expected a finite number, got nan"),
        ({"learning_rate": 0}, "train.learning_rate: expected positive, got 0"),
        ({"batch_size": 2.5}, "train.batch_size: expected an integer, got 2.5"),
        ({"batch_size": 0}, "train.batch_size: expected at least 1, got 0"),
        ({"schedule": "linear"}, "train.schedule: expected 'constant' or 'cosine', got 'linear'"),
        ({"ema": 1.0}, "train.ema: expected at least 0 and below 1, got 1.0"),
        ({"label_dropout": 1.5}, "train.label_dropout: expected between 0 and 1, got 1.5"),
        ({"ckpt_iter": 7}, r"train.ckpt_iter: expected 'max' \(continue\), -1"),
        ({"n_iters": 3, "epochs": 4}, "two names of one setting"),
        ({"max_minutes": None, "seed": None}, "train.seed: expected an integer, got None"),
    ],
)
def test_bad_values_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_section(TrainConfig, values, "train")


def test_sections_survive_writing_and_reading() -> None:
    data = DataConfig(folds=(1, 2), scale=4, window="beat", basis="I-II")
    assert read_section(DataConfig, json.loads(json.dumps(write_section(data))), "dataset") == data
    train = TrainConfig(max_steps=5, ema=0.9, seed=3)
    assert read_section(TrainConfig, write_section(train), "train") == train


def test_the_learning_rate_rises_and_falls() -> None:
    config = TrainConfig(
        learning_rate=1.0, warmup=4, schedule="cosine", final_lr=0.1, max_steps=100
    )
    assert [config.learning_rate_at(k, 0.0) for k in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert config.learning_rate_at(50, 0.5) == pytest.approx(0.55)
    assert config.learning_rate_at(100, 1.0) == pytest.approx(0.1)
    assert TrainConfig(learning_rate=1.0).learning_rate_at(3, 0.9) == 1.0


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.json")), ids=lambda p: p.stem)
def test_every_diffusion_config_of_the_project_can_be_planned(path: Any) -> None:
    if "diffusion" in json.loads(path.read_text()):
        plan = Plan.read(path)
        assert plan.train.steps(1000) is not None or plan.train.max_minutes is not None


def test_a_config_without_sections_is_refused(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match="no section 'diffusion'"):
        Plan.read({"model_name": "SSSDECG", "model": {}, "train": {}})
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        Plan.read(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ConfigError, match="not valid JSON"):
        Plan.read(tmp_path / "broken.json")

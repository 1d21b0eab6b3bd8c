"""What the checkpoint says of its training: labels taken away, moments of the data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ecgcore import checkpoint, diffusion
from ecgcore.diffusion.train import drop_labels
from ecgcore.errors import ConfigError
from ecgcore.gan.config import GANTrainConfig
from ecgcore.train.launch import Plan, build_model, read_records, train
from train_checks import assert_same_run, state, stop_at

EMBEDDING = "embedding.weight"


def test_whole_rows_are_taken_away() -> None:
    label = torch.rand(4000, 3) + 1
    random = torch.Generator().manual_seed(0)
    dropped = drop_labels(label, 0.3, random)
    gone = (dropped == 0).all(1)
    assert torch.equal(dropped[~gone], label[~gone])
    assert abs(gone.double().mean().item() - 0.3) < 0.03  # four standard deviations
    assert torch.equal(drop_labels(label, 0.0, random), label)
    assert not drop_labels(label, 1.0, random).any()


def test_a_model_without_labels_learns_no_classes(plan: Plan, tmp_path: Path) -> None:
    plan = plan.replace(max_steps=3)
    first = build_model(plan).state_dict()[EMBEDDING]
    for share, learns in ((1.0, False), (0.5, True)):
        train(plan.replace(label_dropout=share), tmp_path / str(share))
        learned = state(tmp_path / str(share))["model"][EMBEDDING]
        assert torch.equal(learned, first) != learns
        assert checkpoint.load(tmp_path / str(share)).card.label_dropout == share


def test_a_stopped_run_takes_the_same_labels_away(plan: Plan, tmp_path: Path) -> None:
    plan = plan.replace(label_dropout=0.5, max_steps=6)
    train(plan, tmp_path / "whole")
    train(plan, tmp_path / "parts", callback=stop_at(2))
    train(plan, tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    with pytest.raises(ConfigError, match=r"train\.label_dropout = 0\.5, not None"):
        train(plan.replace(label_dropout=0.0), tmp_path / "parts")


def test_where_there_are_no_labels_to_take_away(plan: Plan, tmp_path: Path) -> None:
    config = plan.to_dict()
    config["model"]["label_embed_classes"] = 0
    config["train"]["label_dropout"] = 0.1
    with pytest.raises(ConfigError, match=r"label_dropout is 0\.1, but the model has no classes"):
        train(config, tmp_path)
    with pytest.raises(ConfigError, match="guidance is for diffusion models"):
        GANTrainConfig(label_dropout=0.1)


def test_the_card_holds_the_moments_of_the_data(plan: Plan, tmp_path: Path) -> None:
    plan = plan.replace(max_steps=1)
    records = read_records(plan, build_model(plan))
    trained, _ = train(plan, tmp_path, data=records)
    wanted = diffusion.class_moments(records.x, records.y)
    card = checkpoint.load(tmp_path).card
    assert card == trained.card
    for name in ("mean", "std"):
        assert torch.equal(torch.tensor(card.moments[name]), getattr(wanted, name))
        assert len(card.moments[name]) == 6  # five classes, and all
    everyone = records.x.transpose(0, 1).flatten(1)
    torch.testing.assert_close(torch.tensor(card.moments["mean"][-1]), everyone.mean(1))

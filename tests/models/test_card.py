"""The card of a model: through JSON, of older versions, of other models, with wrong values."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ecgcore.errors import ConfigError
from ecgcore.models.card import ModelCard
from tiny import BETAS


def test_card_survives_json() -> None:
    card = ModelCard(["a"], ("x", "y"), 250, 17, 0.5, {"T": 3} | BETAS)  # type: ignore[arg-type]
    assert ModelCard.from_json(card.to_json()) == card
    assert card.class_names == ("a",)
    assert ModelCard.from_json(ModelCard((), ("ch0",), 1, 1).to_json()).diffusion is None
    moments = {"mean": [[0.5, -1], [0, 0]], "std": [[1, 0.25], [2, 2]]}
    card = dataclasses.replace(card, moments=moments, label_dropout=0.1)
    assert ModelCard.from_json(card.to_json()) == card
    assert card.moments == {"mean": ((0.5, -1.0), (0.0, 0.0)), "std": ((1.0, 0.25), (2.0, 2.0))}


def test_a_card_of_an_older_version_is_read() -> None:
    card = ModelCard.from_json('{"class_names": [], "lead_names": ["x"], "fs": 1, "length": 1}')
    assert (card.moments, card.label_dropout) == (None, 0.0)


def test_card_of_other_channel_and_class_numbers() -> None:
    card = ModelCard.of_reference(channels=3, classes=2, length=10)
    assert card.lead_names == ("ch0", "ch1", "ch2")
    assert card.class_names == ("class0", "class1")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"class_names": "MI"}, "class_names must be a list of names"),
        ({"lead_names": ("I", "I")}, "lead_names holds a name twice"),
        ({"fs": 0}, "fs must be positive"),
        ({"fs": "100"}, "fs must be a number"),
        ({"scale": float("nan")}, "scale must be positive and finite"),
        ({"length": 0}, "length must be"),
        ({"length": 10.5}, "length must be"),
        ({"diffusion": {"T": 5}}, "diffusion must hold"),
        ({"moments": [[1.0]]}, "moments must hold mean and std"),
        ({"moments": {"mean": [[0.0]]}}, "moments must hold mean and std, got mean"),
        ({"moments": {"mean": [[0.0]], "std": [[1.0]]}}, r"\['mean'\] must be 2 rows .* of 1"),
        (
            {"moments": {"mean": [[0.0], [0.0]], "std": [[1.0], [1.0, 2.0]]}},
            r"\['std'\] must be 2 rows .* of 1 numbers",
        ),
        (
            {"moments": {"mean": [[0.0], [0.0]], "std": [[-1.0], [1.0]]}},
            "finite and not negative, got -1",
        ),
        (
            {"moments": {"mean": [["0"], [0.0]], "std": [[1.0], [1.0]]}},
            r"\['mean'\] must be finite, got '0'",
        ),
        ({"label_dropout": 1.1}, "label_dropout must be a number from 0 to 1, got 1.1"),
        ({"label_dropout": True}, "label_dropout must be a number from 0 to 1, got True"),
    ],
)
def test_card_values_are_checked(change: dict[str, Any], match: str) -> None:
    card = ModelCard(("a",), ("x",), 100, 10)
    with pytest.raises(ConfigError, match=match):
        dataclasses.replace(card, **change)


@pytest.mark.parametrize("text", ["", "3", '{"fs": 100}', '{"colour": 1}'])
def test_card_from_other_json(text: str) -> None:
    with pytest.raises(ConfigError, match="model card"):
        ModelCard.from_json(text)

"""What can be asked of ``model.sample`` beside labels and numbers, checked against the model."""

from __future__ import annotations

import dataclasses
import math
import operator
from dataclasses import dataclass
from typing import Any

import torch

from ecgcore import diffusion
from ecgcore.engine.prepare import PRECISIONS
from ecgcore.models.card import ModelCard

STARTS = ("normal", "matched")

Start = str | diffusion.Moments | diffusion.ClassMoments


@dataclass(frozen=True, eq=False)
class Options:
    """The keywords of ``model.sample`` of the same names; a GAN takes ``length`` alone."""

    steps: int | None = None
    sampler: str = "ddpm"
    length: int | None = None
    precision: str = "fp32"
    start: Start = "normal"
    eta: float = 0.0
    guidance: float = 1.0
    rate: float = 1.0
    known: Any = None
    mask: Any = None
    eager: bool = False

    def check_gan(self, name: str) -> None:
        """Raise ValueError for what only a diffusion model takes."""
        if self.steps is not None or self.sampler != "ddpm":
            raise ValueError(
                f"sample: {name} draws in one pass, it takes neither steps nor a sampler; got "
                f"steps={self.steps!r}, sampler={self.sampler!r}"
            )
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "length" and value is not field.default and value != field.default:
                given = (
                    f"{field.name}={value!r}"
                    if isinstance(value, str | int | float)
                    else field.name
                )
                raise ValueError(
                    f"sample: {name} draws in one pass, it takes no {field.name}; got {given}"
                )

    def check_diffusion(self, name: str, card: ModelCard) -> None:
        """Raise for values that no sampler takes, or that do not fit the model of this card.

        What the samplers take of ``sampler``, ``steps`` and ``eta`` is their own matter.
        """
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"sample: precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}"
            )
        if not isinstance(self.eager, bool):
            raise TypeError(f"sample: eager must be True or False, got {self.eager!r}")
        for option in ("eta", "guidance", "rate"):
            _check_number(option, getattr(self, option))
        if self.rate <= 0:
            raise ValueError(f"sample: rate must be above 0, got {self.rate}")
        if self.guidance != 1 and not card.label_dropout:
            raise ValueError(
                f"sample: guidance={self.guidance} needs a model trained with label dropout, "
                f"guidance=1 any; the card of this {name} says label_dropout = 0, so it never saw "
                "an ECG without a class (train with label_dropout in the config's train section)"
            )
        if isinstance(self.start, str):
            if self.start not in STARTS:
                raise ValueError(
                    f"sample: start must be {' or '.join(map(repr, STARTS))}, or "
                    f"diffusion.Moments, got {self.start!r}"
                )
            if self.start == "matched" and card.moments is None:
                raise ValueError(
                    "sample: start='matched' needs the moments of the training data, and the card "
                    f"of this {name} has none; give start=diffusion.class_moments(x, y) of such "
                    "data in model units, or start=diffusion.Moments(mean, std)"
                )
        elif not isinstance(self.start, diffusion.Moments | diffusion.ClassMoments):
            raise TypeError(
                f"sample: start must be {' or '.join(map(repr, STARTS))}, or diffusion.Moments, "
                f"got {type(self.start).__name__}"
            )


def class_moments_of(card: ModelCard) -> diffusion.ClassMoments:
    """The moments that a card holds."""
    assert card.moments is not None
    mean, std = (torch.tensor(card.moments[name]) for name in ("mean", "std"))
    return diffusion.ClassMoments(mean, std)


def integer(name: str, value: Any) -> int:
    """An int, or a NumPy or torch one; True and False are none."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"sample: {name} must be an integer, got {value!r}")
    return operator.index(value)


def positive(name: str, value: Any) -> int:
    number = integer(name, value)
    if number < 1:
        raise ValueError(f"sample: {name} must be at least 1, got {number}")
    return number


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"sample: {name} must be a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"sample: {name} must be finite, got {value}")

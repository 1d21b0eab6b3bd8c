"""Settings of a training run: the ``train`` and ``dataset`` sections of a config file, checked and
typed.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, TypeVar

from ecgcore.errors import ConfigError


@dataclass(frozen=True)
class TrainConfig:
    """How a diffusion model is trained. The first group of keys is the reference's, the second is
    ours.

    ``n_iters`` counts epochs, as it does in the reference; ``epochs`` is the same key under its
    right name. The run ends at the first of ``epochs``, ``max_steps`` and ``max_minutes`` that is
    reached. A run limited by steps or epochs is a function of the config, the data and ``seed``;
    one limited by ``max_minutes`` also depends on the speed of the machine.
    """

    learning_rate: float = 2e-4
    batch_size: int = 16
    n_iters: int | None = None
    log_interval: int = 1
    """Steps between two lines of ``log.jsonl``."""
    ckpt_interval: int = 1
    """Epochs between two checkpoints."""
    ckpt_iter: str | int = "max"
    """``"max"`` continues the run found in the folder, ``-1`` starts anew."""
    classifier_path: str | None = None
    """Read by the reference's evaluation only; accepted and not used here."""

    epochs: int | None = None
    max_steps: int | None = None
    max_minutes: float | None = None
    """Training time in minutes, added up over interruptions."""
    seed: int = 0
    warmup: int = 0
    """Steps over which the learning rate rises linearly from zero."""
    schedule: Literal["constant", "cosine"] = "constant"
    final_lr: float = 0.05
    """Where the cosine ends, as a fraction of ``learning_rate``."""
    grad_clip: float | None = None
    """Largest norm of the whole gradient; None leaves it as it is."""
    ema: float | None = None
    """Decay of the averaged weights that are sampled from; None samples from the trained ones."""
    stratified_steps: bool = False
    """Spread the diffusion steps of a batch evenly over [0, T) instead of drawing them
    independently.
    """
    label_dropout: float = 0.0
    """Share of the records whose label is taken away (set to zero) in a step, so that the model
    learns the ECG of no class too: what ``guidance`` in ``model.sample`` needs.
    """
    init: str | None = None
    """Checkpoint whose weights the run starts from; None draws new ones."""
    ckpt_minutes: float = 10.0
    """A checkpoint is also written when this much time has passed since the last one."""

    EPOCH_KEYS: ClassVar[tuple[str, ...]] = ("epochs", "n_iters")
    """Names of one setting, the number of epochs."""

    def __post_init__(self) -> None:
        _check(self, "learning_rate", self.learning_rate > 0, "positive")
        for name in ("batch_size", "log_interval", "ckpt_interval"):
            _check(self, name, getattr(self, name) >= 1, "at least 1")
        for name in (*self.EPOCH_KEYS, "max_steps"):
            value = getattr(self, name)
            _check(self, name, value is None or value >= 1, "at least 1")
        for name in ("max_minutes", "grad_clip"):
            value = getattr(self, name)
            _check(self, name, value is None or value > 0, "positive")
        _check(self, "warmup", self.warmup >= 0, "0 or more")
        _check(self, "final_lr", 0 <= self.final_lr <= 1, "between 0 and 1")
        _check(self, "ema", self.ema is None or 0 <= self.ema < 1, "at least 0 and below 1")
        _check(self, "label_dropout", 0 <= self.label_dropout <= 1, "between 0 and 1")
        _check(self, "ckpt_minutes", self.ckpt_minutes > 0, "positive")
        _check(
            self, "ckpt_iter", self.ckpt_iter in ("max", -1), "'max' (continue), -1 (start anew)"
        )
        given = {name: getattr(self, name) for name in reversed(self.EPOCH_KEYS)}
        given = {name: value for name, value in given.items() if value is not None}
        if len(set(given.values())) > 1:
            names = " and ".join(f"{name} ({value})" for name, value in given.items())
            raise ConfigError(f"train: {names} are two names of one setting; give one of them")

    def steps(self, records: int) -> int | None:
        """Number of steps for a data set of ``records`` records; None if only ``max_minutes`` ends
        the run.
        """
        limits = [] if self.max_steps is None else [self.max_steps]
        for name in self.EPOCH_KEYS:
            if (epochs := getattr(self, name)) is not None:
                limits.append(max(1, epochs * records // self.batch_size))
        if not limits and self.max_minutes is None:
            raise ConfigError(
                "train: nothing says when to stop; give epochs, max_steps or max_minutes"
            )
        return min(limits, default=None)

    def with_epochs(self, epochs: int) -> Self:
        """A copy with another number of epochs, whatever name it had."""
        changes: dict[str, Any] = dict.fromkeys(self.EPOCH_KEYS)
        return dataclasses.replace(self, **changes | {"epochs": epochs})

    def learning_rate_at(self, step: int, fraction: float) -> float:
        """Learning rate of ``step`` (from 0) when ``fraction`` (0..1) of the run is done."""
        rate = self.learning_rate
        if self.schedule == "cosine":
            cosine = 0.5 * (1 + math.cos(math.pi * min(max(fraction, 0.0), 1.0)))
            rate *= self.final_lr + (1 - self.final_lr) * cosine
        return rate * min(1.0, (step + 1) / self.warmup) if self.warmup else rate


@dataclass(frozen=True)
class DataConfig:
    """What a model is trained on. The first keys are the reference's, the others ours."""

    segment_length: int = 1000
    """Samples the model sees at a time; longer records are cut as ``window`` says."""
    sampling_rate: float = 100
    data_directory: str | None = None

    source: Literal["ptbxl", "npy", "simulate"] | None = None
    """None: recognised from the folder."""
    scale: float = 1.0
    """Model units per millivolt."""
    basis: Literal["I-aVF", "I-II"] = "I-aVF"
    """Which eight leads an eight-channel model has: I, V1..V6, aVF or I, II, V1..V6."""
    task: Literal["superclass", "all"] = "superclass"
    folds: tuple[int, ...] | None = (1, 2, 3, 4, 5, 6, 7, 8)
    """Folds of PTB-XL to train on; None takes all."""
    keep_unlabelled: bool = False
    window: Literal["start", "random", "beat"] = "start"
    """Where a shorter segment begins: at the record's start, anywhere, or ``lead_in`` seconds
    before a beat.
    """
    lead_in: float = 0.35
    """Seconds before the R peak (``window="beat"``)."""
    jitter: float = 0.02
    """Seconds by which a ``"beat"`` window is moved at most, either way."""
    records: int = 1500
    """Number of simulated records (``source="simulate"``)."""
    seconds: float = 10.0
    seed: int = 0
    spread: float = 1.0
    """Variation between simulated records; 1 is the simulator's full variety."""

    def __post_init__(self) -> None:
        for name in ("segment_length", "records"):
            _check(self, name, getattr(self, name) >= 1, "at least 1", "dataset")
        for name in ("sampling_rate", "scale", "seconds"):
            _check(self, name, getattr(self, name) > 0, "positive", "dataset")
        for name in ("lead_in", "jitter", "spread"):
            _check(self, name, getattr(self, name) >= 0, "0 or more", "dataset")


Section = TypeVar("Section", bound=TrainConfig | DataConfig)


def read_section(kind: type[Section], values: Mapping[str, Any], name: str) -> Section:
    """Build ``kind`` from a mapping; an unknown key or a value of the wrong type is a ConfigError
    naming it.
    """
    hints = typing.get_type_hints(kind)
    hints = {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1, cutoff=0)
            raise ConfigError(f"{name}: unknown key {key!r}; the nearest valid one is {near[0]!r}")
        checked[key] = _convert(value, hints[key], f"{name}.{key}")
    return kind(**checked)


def write_section(section: TrainConfig | DataConfig) -> dict[str, Any]:
    """The settings that differ from their defaults, as plain JSON values."""
    defaults = type(section)()
    values = {f.name: getattr(section, f.name) for f in dataclasses.fields(section)}
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in values.items()
        if value != getattr(defaults, key)
    }


def _convert(value: Any, hint: Any, name: str) -> Any:
    """``value`` as the annotated type ``hint``: JSON's 1 passes for 1.0 and a list for a tuple,
    nothing else bends.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for option in args:
            try:
                return _convert(value, option, name)
            except ConfigError:
                continue
    elif origin is Literal:
        if value in args:
            return value
    elif origin is tuple:
        if isinstance(value, list | tuple):
            return tuple(_convert(item, args[0], name) for item in value)
    elif hint is type(None):
        if value is None:
            return None
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    elif hint is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif hint is bool:
        if isinstance(value, bool) or value in (0, 1):
            return bool(value)
    elif isinstance(value, hint):
        return value
    raise ConfigError(f"{name}: expected {_describe(hint)}, got {value!r}")


def _describe(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_describe(option) for option in args)
    if origin is Literal:
        return " or ".join(repr(option) for option in args)
    if origin is tuple:
        return f"a list of {_describe(args[0])}"
    if hint is type(None):
        return "null"
    return {int: "an integer", float: "a finite number", bool: "true or false", str: "a string"}[
        hint
    ]


def _check(section: object, name: str, valid: bool, expected: str, where: str = "train") -> None:
    if not valid:
        raise ConfigError(f"{where}.{name}: expected {expected}, got {getattr(section, name)!r}")

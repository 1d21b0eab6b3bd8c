"""What the tensors of a model do not say: names of its classes and leads, sampling rate, units."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from ecgcore.data.classes import default_class_names
from ecgcore.data.leads import BASES, REFERENCE_LEADS
from ecgcore.errors import ConfigError

__all__ = ["ModelCard"]


@dataclass(frozen=True)
class ModelCard:
    """The label on a trained generator, kept as ``model.card`` and in every checkpoint.

    Attributes:
        class_names: of the label's columns.
        lead_names: of the model's channels, in order.
        fs: sampling rate in Hz.
        length: samples per record in training, and what ``model.sample`` draws by default.
        scale: model units per mV, ``x_model = scale * x_mV``.
        diffusion: ``{"T", "beta_0", "beta_T"}`` of the noise schedule; None for other models.
        moments: ``{"mean", "std"}`` of the training data in model units, each a row per class and
            one of all records, with a number per channel: what ``start="matched"`` starts from
            (``diffusion.ClassMoments``). None where they are not known.
        label_dropout: share of the training records whose label was taken away. Where it is above
            0 the model also knows the ECG of no class, and ``guidance`` can lead away from it.

    Raises:
        ConfigError: a value that cannot be meant.
    """

    class_names: tuple[str, ...]
    lead_names: tuple[str, ...]
    fs: float
    length: int
    scale: float = 1.0
    diffusion: Mapping[str, float] | None = None
    moments: Mapping[str, Sequence[Sequence[float]]] | None = None
    label_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("class_names", "lead_names"):
            names = getattr(self, name)
            if isinstance(names, str) or not all(isinstance(v, str) and v for v in names):
                raise ConfigError(f"model card: {name} must be a list of names, got {names!r}")
            if len(set(names)) != len(names):
                raise ConfigError(f"model card: {name} holds a name twice: {', '.join(names)}")
            object.__setattr__(self, name, tuple(names))
        for name in ("fs", "scale"):
            value = getattr(self, name)
            if not _is_number(value):
                raise ConfigError(f"model card: {name} must be a number, got {value!r}")
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"model card: {name} must be positive and finite, got {value!r}")
            object.__setattr__(self, name, float(value))
        if isinstance(self.length, bool) or not isinstance(self.length, int) or self.length < 1:
            raise ConfigError(
                f"model card: length must be a positive number of samples, got {self.length!r}"
            )
        if self.diffusion is not None:
            if set(self.diffusion) != {"T", "beta_0", "beta_T"}:
                raise ConfigError(
                    "model card: diffusion must hold T, beta_0 and beta_T, got "
                    + ", ".join(sorted(map(str, self.diffusion)))
                )
            object.__setattr__(self, "diffusion", dict(self.diffusion))
        if self.moments is not None:
            object.__setattr__(self, "moments", self._checked_moments(self.moments))
        if not (_is_number(self.label_dropout) and 0 <= self.label_dropout <= 1):
            raise ConfigError(
                f"model card: label_dropout must be a number from 0 to 1, got "
                f"{self.label_dropout!r}"
            )
        object.__setattr__(self, "label_dropout", float(self.label_dropout))

    def _checked_moments(self, moments: Any) -> dict[str, tuple[tuple[float, ...], ...]]:
        """``moments`` as tuples of floats."""
        if not isinstance(moments, Mapping) or set(moments) != {"mean", "std"}:
            given = (
                ", ".join(sorted(map(str, moments))) if isinstance(moments, Mapping) else moments
            )
            raise ConfigError(f"model card: moments must hold mean and std, got {given}")
        shape = (len(self.class_names) + 1, len(self.lead_names))
        checked = {}
        for name, rows in moments.items():
            right = isinstance(rows, list | tuple) and len(rows) == shape[0]
            if not right or any(
                not isinstance(row, list | tuple) or len(row) != shape[1] for row in rows
            ):
                raise ConfigError(
                    f"model card: moments[{name!r}] must be {shape[0]} rows (classes, all) of "
                    f"{shape[1]} numbers (channels)"
                )
            for value in (value for row in rows for value in row):
                least = 0.0 if name == "std" else -math.inf
                if not (_is_number(value) and math.isfinite(value) and value >= least):
                    kind = "finite and not negative" if name == "std" else "finite"
                    raise ConfigError(
                        f"model card: moments[{name!r}] must be {kind}, got {value!r}"
                    )
            checked[name] = tuple(tuple(float(value) for value in row) for row in rows)
        return checked

    @classmethod
    def of_reference(
        cls,
        *,
        channels: int,
        classes: int,
        length: int,
        fs: float = 100.0,
        scale: float = 1.0,
        basis: str = "I-aVF",
        diffusion: Mapping[str, float] | None = None,
    ) -> ModelCard:
        """The card of a checkpoint of SSSD-ECG or SynthECG, which stores none.

        Eight channels are the leads of ``basis`` (I, V1..V6, aVF), twelve the order of the npy
        files, other numbers are ``ch0``, ``ch1``, ...; five classes are PTB-XL's superclasses, 71
        its sorted SCP codes. Those models draw millivolt.
        """
        by_channels = {8: BASES[basis], 12: REFERENCE_LEADS}
        leads = by_channels.get(channels, tuple(f"ch{i}" for i in range(channels)))
        return cls(default_class_names(classes), leads, fs, length, scale, diffusion)

    def to_json(self) -> str:
        """One line of JSON that ``from_json`` reads back to an equal card."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Read what ``to_json`` wrote. Raises ConfigError for anything else."""
        try:
            values: Any = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"model card: not JSON: {error}") from None
        if not isinstance(values, dict):
            raise ConfigError(f"model card: expected an object, got {type(values).__name__}")
        known = {field.name for field in fields(cls)}
        if unknown := set(values) - known:
            raise ConfigError(f"model card: unknown key {sorted(unknown)[0]!r}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"model card: {error}".replace("ModelCard.__init__() ", "")) from None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

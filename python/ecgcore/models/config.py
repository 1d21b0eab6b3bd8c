"""Model settings: one frozen dataclass per model, checked field by field."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from ecgcore.errors import ConfigError


def nearest(name: str, valid: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the valid name closest to ``name``, whatever it is."""
    names = list(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    return f" (did you mean {close[0]!r}?)" if close else ""


def check_keys(section: str, given: Iterable[Any], valid: Iterable[str]) -> None:
    """Raise :class:`ConfigError` for the first key of ``given`` that is not a valid one."""
    names = list(valid)
    for key in given:
        if key not in names:
            raise ConfigError(f"{section}: unknown key {key!r}{nearest(str(key), names)}")


def check_int(where: str, value: Any, low: int) -> int:
    """``value`` as an int of at least ``low``; whole floats pass, NaN and bools do not."""
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or value < low:
        raise ConfigError(f"{where} must be an integer >= {low}, got {value!r}")
    return int(value)


def check_float(where: str, value: Any, low: float, high: float) -> float:
    """``value`` as a float with ``low <= value < high``."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value < high:
        raise ConfigError(f"{where} must be a number in [{low:g}, {high:g}), got {value!r}")
    return float(value)


def check_flag(where: str, value: Any) -> bool:
    """``value`` as a bool; the references write 0 and 1."""
    if not isinstance(value, (bool, int)) or value not in (0, 1):
        raise ConfigError(f"{where} must be true, false, 1 or 0, got {value!r}")
    return bool(value)


def check_fields(
    settings: Any, lowest: Mapping[str, int], sections: Mapping[str, str] | None = None
) -> None:
    """Check every field of a frozen dataclass of settings by its type, and make it that type.

    Integers are at least 1, or what ``lowest`` says; floats lie in [0, 1). ``sections`` names the
    sections of a config that fields stand in, where that is not ``model``.
    """
    for field in dataclasses.fields(settings):
        where = f"{(sections or {}).get(field.name, 'model')}.{field.name}"
        value = getattr(settings, field.name)
        checked: Any = value
        if field.type == "int":
            checked = check_int(where, value, lowest.get(field.name, 1))
        elif field.type == "bool":
            checked = check_flag(where, value)
        elif field.type == "float":
            checked = check_float(where, value, 0.0, 1.0)
        object.__setattr__(settings, field.name, checked)


@dataclass(frozen=True, kw_only=True)
class DenoiserConfig:
    """What the settings of the diffusion models share; the defaults are the reference's ECG models.

    Raises:
        ConfigError: for values of a wrong type, NaN, or out of range.
    """

    model_name: ClassVar[str]
    lowest: ClassVar[Mapping[str, int]] = {
        "diffusion_step_embed_dim_in": 4,
        "label_embed_classes": 0,
    }
    even: ClassVar[tuple[str, ...]] = ("diffusion_step_embed_dim_in",)
    switches: ClassVar[tuple[str, ...]] = ("exact_nodes", "conjugate_pairs")
    """Fields of ours, left out of a config where they have their default."""

    in_channels: int = 8
    """channels of the noisy signal"""
    res_channels: int = 256
    """width of the residual stream; the layers over time work at twice that"""
    skip_channels: int = 256
    num_res_layers: int
    out_channels: int = 8
    diffusion_step_embed_dim_in: int = 128
    """width of the sinusoidal step embedding, even and at least 4"""
    diffusion_step_embed_dim_mid: int = 512
    diffusion_step_embed_dim_out: int = 512
    label_embed_classes: int = 0
    """classes; 0 makes a model without labels"""
    label_embed_dim: int = 128

    def __post_init__(self) -> None:
        check_fields(self, self.lowest)
        for name in self.even:
            if getattr(self, name) % 2:
                raise ConfigError(f"model.{name} must be even, got {getattr(self, name)}")

    @classmethod
    def from_dict(cls, section: Mapping[str, Any]) -> Self:
        """From the ``model`` section of a config; missing keys take the defaults.

        Raises:
            ConfigError: for unknown keys and unusable values.
        """
        check_keys("model", section, [field.name for field in dataclasses.fields(cls)])
        return cls(**section)

    def to_dict(self) -> dict[str, Any]:
        """The ``model`` section, as plain JSON types; switches at their defaults are left out."""
        values = dataclasses.asdict(self)
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        return {k: v for k, v in values.items() if k not in self.switches or v != defaults[k]}


@dataclass(frozen=True, kw_only=True)
class SSSDConfig(DenoiserConfig):
    """Settings of :class:`ecgcore.models.SSSDECG`."""

    model_name: ClassVar[str] = "SSSDECG"
    lowest: ClassVar[Mapping[str, int]] = {**DenoiserConfig.lowest, "s4_d_state": 2}
    even: ClassVar[tuple[str, ...]] = (*DenoiserConfig.even, "s4_d_state")
    switches: ClassVar[tuple[str, ...]] = (*DenoiserConfig.switches, "odd_length")

    num_res_layers: int = 36
    s4_lmax: int = 1000
    """internal length of the S4 kernels, in samples"""
    s4_d_state: int = 64
    """state size ``N``, even"""
    s4_dropout: float = 0.0
    s4_bidirectional: bool = True
    s4_layernorm: bool = True
    exact_nodes: bool = False
    """evaluate the S4 kernels at exact nodes, not at the reference's rounded, stored ones"""
    odd_length: str = "exact"
    """``"reference"`` reproduces the reference's kernel at odd ``s4_lmax``"""
    conjugate_pairs: bool = True
    """``False`` for a model trained with the half sum of the reference's pure-torch fallback"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.odd_length not in ("exact", "reference"):
            raise ConfigError(
                f"model.odd_length must be 'exact' or 'reference', got {self.odd_length!r}"
            )


@dataclass(frozen=True, kw_only=True)
class DSATConfig(DenoiserConfig):
    """Settings of :class:`ecgcore.models.DSATECG`, but for those of its SPADE layers."""

    model_name: ClassVar[str] = "DSATECG"

    num_res_layers: int = 4
    exact_nodes: bool = True
    """``False`` rounds the nodes of the S4 kernels as the reference does"""
    conjugate_pairs: bool = True
    """``False`` for a model trained with the half sum of the reference's pure-torch fallback"""


def check_diffusion(section: Any) -> dict[str, Any]:
    """The ``diffusion`` section with its values checked: ``T``, ``beta_0``, ``beta_T``.

    Raises:
        ConfigError: for unknown keys and unusable values.
    """
    if not isinstance(section, Mapping):
        raise ConfigError(f"diffusion must be an object, got {type(section).__name__}")
    check_keys("diffusion", section, ("T", "beta_0", "beta_T"))
    checked = dict(section)
    if "T" in checked:
        checked["T"] = check_int("diffusion.T", checked["T"], 1)
    for name in ("beta_0", "beta_T"):
        if name in checked:
            checked[name] = check_float(f"diffusion.{name}", checked[name], 0.0, 1.0)
            if not math.isfinite(checked[name]) or checked[name] == 0.0:
                raise ConfigError(f"diffusion.{name} must lie in (0, 1), got {section[name]!r}")
    return checked

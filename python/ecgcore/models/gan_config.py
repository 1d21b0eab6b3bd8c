"""Settings of the GANs' networks, and where they stand in a config.

The references give a generator ``{**model, **generator}`` and its critic ``{**model,
**discriminator}``: the section ``model`` holds what the two have in common.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from ecgcore.errors import ConfigError
from ecgcore.models.config import check_fields, check_keys

COMMON = ("model_size", "num_channels", "n_channels", "verbose")
"""Keys of the section ``model`` of a pair."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """What the settings of all networks share.

    Raises:
        ConfigError: for values of a wrong type, NaN, or out of range.
    """

    section: ClassVar[str]
    """the section of a config that holds what is not common to the pair"""
    lowest: ClassVar[Mapping[str, int]] = {}

    model_size: int = 50
    """number of channels that all widths are multiples or fractions of"""
    verbose: bool = False
    """accepted and not used"""

    def __post_init__(self) -> None:
        names = [field.name for field in dataclasses.fields(self)]
        sections = {name: self.section for name in names if name not in COMMON}
        check_fields(self, self.lowest, sections)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """From all settings in one mapping; missing keys take the defaults.

        Raises:
            ConfigError: for unknown keys and unusable values.
        """
        check_keys(cls.section, settings, [field.name for field in dataclasses.fields(cls)])
        return cls(**settings)

    def to_sections(self) -> dict[str, dict[str, Any]]:
        """The sections of a config that give these settings, as plain JSON types."""
        values = dataclasses.asdict(self)
        common = {key: values.pop(key) for key in COMMON if key in values}
        return (
            {"model": common | values}
            if self.section == "model"
            else {
                "model": common,
                self.section: values,
            }
        )


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(NetworkConfig):
    """What the settings of the generators share."""

    section: ClassVar[str] = "generator"
    lowest: ClassVar[Mapping[str, int]] = {"model_size": 5, "post_proc_filt_len": 0}

    post_proc_filt_len: int = 512
    """length of a filter that the reference stores and never uses; 0 if it stores none"""
    upsample: bool = True
    """only ``True``: the reference's other way has strides that do not fit its layers"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.upsample:
            raise ConfigError(
                f"{self.section}.upsample must be true: with false the reference takes strides of "
                "4 with the same factors, which do not fit together"
            )


@dataclass(frozen=True, kw_only=True)
class WaveGANConfig(GeneratorConfig):
    """Settings of :class:`ecgcore.models.CondWaveGANGenerator`, defaults of the reference."""

    num_channels: int = 12
    label_embed_classes: int = 5
    latent_dim: int = 1000
    """numbers in a latent row; the output has 125 samples per row"""


@dataclass(frozen=True, kw_only=True)
class CondP2PConfig(GeneratorConfig):
    """Settings of :class:`ecgcore.models.CondP2PGenerator`, defaults of the reference."""

    n_channels: int = 8
    label_embed_classes: int = 8


@dataclass(frozen=True, kw_only=True)
class P2PConfig(GeneratorConfig):
    """Settings of :class:`ecgcore.models.P2PGenerator`, defaults of ``deepfake-ecg``."""

    section: ClassVar[str] = "model"

    num_channels: int = 8
    latent_dim: int = 100
    """width of a layer that ``deepfake-ecg`` stores and never uses"""


@dataclass(frozen=True, kw_only=True)
class CriticConfig(NetworkConfig):
    """What the settings of the critics share."""

    section: ClassVar[str] = "discriminator"
    lowest: ClassVar[Mapping[str, int]] = {"shift_factor": 0}

    shift_factor: int = 2
    """largest shift of the phase shuffles, in samples; 0 for none"""
    alpha: float = 0.2
    """slope of the leaky ReLUs"""
    length: int = 1000
    """samples of the signals it judges"""


@dataclass(frozen=True, kw_only=True)
class WaveGANCriticConfig(CriticConfig):
    """Settings of :class:`ecgcore.models.CondWaveGANDiscriminator`."""

    num_channels: int = 12


@dataclass(frozen=True, kw_only=True)
class CondP2PCriticConfig(CriticConfig):
    """Settings of :class:`ecgcore.models.CondP2PDiscriminator`."""

    model_size: int = 64
    n_channels: int = 8

"""What the generators of the GANs share, and how a pair is built from a config."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ecgcore.errors import ConfigError
from ecgcore.models.config import check_keys
from ecgcore.models.critic import Critic
from ecgcore.models.gan_config import COMMON, GeneratorConfig
from ecgcore.nn.conv import UpsampleConv1d
from ecgcore.nn.unused import LeavesOut

CRITIC = "discriminator"
"""Name of a generator's critic, as a submodule."""


class Generator(LeavesOut):
    """Makes signals of latent noise, uniform in [-1, 1].

    Attributes:
        config: the settings as a plain dict that :func:`ecgcore.models.from_config` takes.
        out_channels: channels of a signal.
        num_classes: columns of a label; 0 for a generator without classes.
        usual: length in samples, sampling rate, model units per millivolt and lead basis of a
            signal as the reference draws it.
        discriminator: the critic it is trained against, or None. It is a submodule: it moves, is
            saved and is copied with the generator.
    """

    Settings: ClassVar[type[GeneratorConfig]]
    usual: ClassVar[Mapping[str, Any]] = {"length": 1000}
    discriminator: Critic | None

    def __init__(self, settings: GeneratorConfig, channels: int, classes: int) -> None:
        super().__init__()
        name = type(self).__name__
        self.config: dict[str, Any] = {"model_name": name, **settings.to_sections()}
        self.out_channels, self.num_classes = channels, classes

    def latent_shape(self, length: int) -> tuple[int, int]:
        """Shape of one record's latent for signals of ``length`` samples.

        Raises:
            ValueError: for a length that this generator cannot make; it names the nearest ones.
        """
        raise NotImplementedError

    def signal_length(self, latent: Sequence[int]) -> int:
        """Samples of the signal made of one record's latent of that shape.

        Raises:
            ValueError: for a shape that this generator cannot take.
        """
        raise NotImplementedError

    def networks(self) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
        """The generator's own parameters by name, and its critic's by theirs."""
        own: dict[str, nn.Parameter] = {}
        critic: dict[str, nn.Parameter] = {}
        for name, parameter in self.named_parameters():
            (critic if name.startswith(f"{CRITIC}.") else own)[name] = parameter
        return own, critic

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As any module's. A state dict without a critic leaves the critic as it is."""
        critic = self.discriminator
        if critic is not None and not any(key.startswith(f"{CRITIC}.") for key in state_dict):
            kept = {f"{CRITIC}.{key}": value for key, value in critic.state_dict().items()}
            state_dict = {**state_dict, **kept}
        return super().load_state_dict(state_dict, strict, assign)

    def _finish(self, filter_length: int) -> None:
        """What the reference's constructors do last: an unused filter, and fresh weights for unused
        layers."""
        if filter_length:
            c = self.out_channels
            self.leave_out("ppfilter1", nn.Conv1d(c, c, filter_length))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, UpsampleConv1d):
                torch.empty(module.unused["Conv1dTrans.weight"]).normal_()
        self.register_module(CRITIC, None)

    def _checked_label(self, label: Tensor, batch: int, dtype: torch.dtype) -> Tensor:
        if label.shape != (batch, self.num_classes):
            raise ValueError(
                f"{type(self).__name__}: label must have shape (B, classes) = "
                f"({batch}, {self.num_classes}), got {tuple(label.shape)}"
            )
        return label.to(dtype)


def nearest_multiples(length: int, step: int) -> str:
    """``"500 and 1000"``: the multiples of ``step`` around ``length``, those above 0."""
    below = length // step * step
    return f"{below} and {below + step}" if below else str(step)


def build_pair(
    generator: type[Generator], critic: type[Critic], config: Mapping[str, Any]
) -> Generator:
    """A generator, with its critic attached if the config has a section for one.

    What stands in ``model`` counts for both, unless their own sections say otherwise. The critic
    judges signals of ``discriminator.length`` samples; without that key, of the data's
    ``segment_length``; else of 1000.

    Raises:
        ConfigError: for unknown keys, unusable values, and a length that the generator cannot make.
    """
    common = config.get("model", {})
    known = [field.name for field in dataclasses.fields(generator.Settings)]
    check_keys("model", common, [key for key in known if key in COMMON])
    model = generator(**{**common, **config.get("generator", {})})
    if CRITIC not in config:
        return model
    settings = dict(config[CRITIC])
    if "segment_length" in config.get("dataset", {}):
        settings.setdefault("length", config["dataset"]["segment_length"])
    model.discriminator = critic(**{**common, **settings})
    overriding = {key: value for key, value in settings.items() if key in COMMON}
    model.config[CRITIC] = overriding | model.discriminator.config[CRITIC]
    try:
        model.latent_shape(model.discriminator.length)
    except ValueError as error:
        raise ConfigError(f"discriminator.length: {error}") from None
    return model

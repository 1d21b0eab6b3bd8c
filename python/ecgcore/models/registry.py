"""Models by name, and from the JSON configs of this project and of the references."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from ecgcore.errors import ConfigError
from ecgcore.models.config import check_diffusion, check_keys, nearest
from ecgcore.models.critic import CondP2PDiscriminator, CondWaveGANDiscriminator
from ecgcore.models.dsat_ecg import DSATECG
from ecgcore.models.gan import build_pair
from ecgcore.models.pulse2pulse import CondP2PGenerator, P2PGenerator
from ecgcore.models.sssd_ecg import SSSDECG
from ecgcore.models.wavegan import CondWaveGANGenerator

Builder = Callable[[Mapping[str, Any]], nn.Module]


def _alone(model: type[nn.Module]) -> Builder:
    """Builds a model from the keys of the section ``model``."""
    return lambda config: model(**config.get("model", {}))


def _dsat(config: Mapping[str, Any]) -> nn.Module:
    section = config.get("model", {})
    if "spade_cfg" in section:
        raise ConfigError("model: 'spade_cfg' is a section of its own, beside 'model'")
    return DSATECG(**section, spade_cfg=config.get("spade_cfg"))


GANS: dict[str, Builder] = {
    "CondWaveGANGenerator": partial(build_pair, CondWaveGANGenerator, CondWaveGANDiscriminator),
    "CondP2PGenerator": partial(build_pair, CondP2PGenerator, CondP2PDiscriminator),
}
"""What builds a generator, and its critic, from a config."""

MODELS: dict[str, Builder] = {
    "SSSDECG": _alone(SSSDECG),
    "DSATECG": _dsat,
    **GANS,
    "P2PGenerator": _alone(P2PGenerator),
}
"""What builds a model from a config, by ``"model_name"``."""

SECTIONS = (
    "diffusion",
    "model",
    "spade_cfg",
    "generator",
    "discriminator",
    "train",
    "dataset",
    "experiment",
)
_ORIGINAL_NAMES = {
    "diffusion_config": "diffusion",
    "wavenet_config": "model",
    "train_config": "train",
    "trainset_config": "dataset",
    "gen_config": "gen",
}
"""Section names of the original SSSD-ECG repository."""


def read_config(source: str | PathLike[str] | Mapping[str, Any]) -> dict[str, Any]:
    """A config as a new dict with this project's section names and its ``"model_name"``.

    Args:
        source: a path to JSON, or a mapping. Commas before a closing bracket are forgiven: the
            original repository's own files have them.

    Returns:
        The sections given, the ``diffusion`` section checked; ``model`` as it stands in the file.

    Raises:
        FileNotFoundError: where there is no such file.
        ConfigError: for what is no JSON object, unknown sections, or a model that cannot be told.
    """
    config = dict(_read_json(Path(source)) if not isinstance(source, Mapping) else source)
    check_keys("config", config, ["model_name", *SECTIONS, *_ORIGINAL_NAMES, "gen"])
    for old, new in _ORIGINAL_NAMES.items():
        if old in config:
            if new in config:
                raise ConfigError(f"config: {old!r} and {new!r} are the same section")
            config[new] = config.pop(old)
    for name, section in config.items():
        if name != "model_name" and not isinstance(section, Mapping):
            raise ConfigError(f"config: section {name!r} must be an object, got {section!r}")
    config = copy.deepcopy(config)
    if "diffusion" in config:
        config["diffusion"] = check_diffusion(config["diffusion"])
    config["model_name"] = _model_name(config)
    if "spade_cfg" in config and config["model_name"] != "DSATECG":
        raise ConfigError(
            f"config: section 'spade_cfg' is for DSATECG, not for {config['model_name']}"
        )
    return config


def from_config(source: str | PathLike[str] | Mapping[str, Any]) -> nn.Module:
    """Build a model, with fresh weights, from a JSON config or a mapping.

    The model is named by ``"model_name"``, else inferred from the sections and keys that the
    references' files have. The result's ``config`` is the whole config, its ``model`` section
    completed with defaults.

    Raises:
        FileNotFoundError: where there is no such file.
        ConfigError: for unknown keys (named, with the nearest valid one), and values of a wrong
            type, NaN or out of range.
    """
    config = read_config(source)
    model = MODELS[config["model_name"]](config)
    model.config = {**config, **model.config}  # type: ignore[dict-item, assignment]
    return model


def _model_name(config: Mapping[str, Any]) -> str:
    valid = list(MODELS)
    if "model_name" in config:
        name = config["model_name"]
        if name not in valid:
            raise ConfigError(
                f"config: unknown model_name {name!r}{nearest(str(name), valid)}; "
                f"it is one of {', '.join(valid)}"
            )
        return str(name)
    if "spade_cfg" in config:
        return "DSATECG"
    model = config.get("model")
    if model is None:
        raise ConfigError("config: neither a 'model_name' nor a 'model' section says which model")
    if "generator" in config or "discriminator" in config:
        if "latent_dim" in config.get("generator", {}) or "num_channels" in model:
            return "CondWaveGANGenerator"
        return "CondP2PGenerator"
    if any(key.startswith("s4_") for key in model):
        return "SSSDECG"
    if "res_channels" in model:
        return "DSATECG"
    raise ConfigError(
        f'config: the model cannot be told from its keys; add "model_name": {valid[0]!r} or '
        f"another of {', '.join(valid[1:])}"
    )


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: a folder, a JSON file is needed") from None
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        # Strings first, so that a comma and bracket inside one are left alone.
        relaxed = re.sub(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])', lambda m: m[1] or "", text)
        try:
            config = json.loads(relaxed)
        except json.JSONDecodeError:
            raise ConfigError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(config, Mapping):
        raise ConfigError(f"{path}: a JSON object is needed, got {type(config).__name__}")
    return config

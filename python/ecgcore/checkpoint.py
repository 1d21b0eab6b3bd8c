"""Saving models, and loading ours and other projects'."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import ecgcore
from ecgcore import compat, models, sampling
from ecgcore._files import replacing
from ecgcore.errors import CheckpointError, ConfigError
from ecgcore.models.card import ModelCard

__all__ = ["FORMAT", "load", "save"]

FORMAT = 1
"""Version of the metadata in a checkpoint; ``load`` reads this one and older ones."""

_REFERENCE_LENGTH = 1000
"""Samples of a record in the references' trainings: ten seconds."""

_RUN_FILE = "checkpoint.safetensors"

Config = str | os.PathLike[str] | Mapping[str, Any]


def save(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a model's weights, with all that is needed to use them, as ``.safetensors``.

    The metadata hold ``config`` and ``card`` (names of classes and leads, sampling rate, length,
    scale, noise schedule), both JSON, ``units``, the version of ecgcore and of the format. Wrappers
    of ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile`` are taken off. The file
    appears whole or not at all.

    Args:
        model: one of ``ecgcore.models``. Its ``card`` is stored; a model without one, built from a
            config and not by ``load``, gets the card that its config implies.
        path: ends in ``.safetensors``; the folder is made if need be.

    Raises:
        ValueError: another suffix.
        TypeError: a model that carries no ``config``.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"save: path must end in .safetensors, got {path}")
    model = _unwrapped(model)
    config = getattr(model, "config", None)
    if not isinstance(config, Mapping):
        raise TypeError(
            f"save: model must be one of ecgcore.models, which carry a config; "
            f"got {type(model).__name__}"
        )
    card = getattr(model, "card", None) or _implied_card(model)
    metadata = {
        "format": "pt",  # what other readers of safetensors look for
        "ecgcore_format": str(FORMAT),
        "ecgcore_version": ecgcore.__version__,
        "model_name": str(config["model_name"]),
        "config": json.dumps(config),
        "card": card.to_json(),
        "units": "mV",
    }
    # The format knows neither views nor strides, and refuses tensors that share memory.
    tensors = {
        key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, tensor in model.state_dict().items()
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata)


def load(
    path: str | os.PathLike[str],
    *,
    config: Config | None = None,
    device: torch.device | str | None = None,
) -> nn.Module:
    """Open a checkpoint: ours, or one of SSSD-ECG, SynthECG or deepfake-ecg.

    Args:
        path: a ``.safetensors`` of ours; a run folder of ours (its ``checkpoint.safetensors``) or
            of SynthECG (its highest-numbered ``.pkl``); a ``.pkl``, ``.pt`` or ``.pth`` of those
            projects. Pickles are read by a reader that knows tensors and nothing else: no code in a
            file is ever run.
        config: path or mapping. For a foreign checkpoint it tells what the tensors do not; without
            it a JSON config beside the file is taken, else 200 steps, 1e-4 to 0.02. For one of ours
            it may replace the noise schedule. It must not contradict the tensors.
        device: where the model goes; the CPU by default.

    Returns:
        The model in ``eval()``, with ``config`` (a dict for ``models.from_config``), ``card`` (a
        ``models.card.ModelCard``) and ``sample`` (``sampling.sample`` for this model); of a foreign
        checkpoint also ``report`` (a ``compat.Report``). Of a GAN it is the generator, with its
        critic, if the file has it, as ``discriminator``. A foreign checkpoint whose S4 kernels have
        odd internal length is built with ``odd_length="reference"``, as its weights were trained.

    Raises:
        FileNotFoundError: no such file, or a folder without a checkpoint.
        CheckpointError: not a checkpoint, truncated, of an unknown model, one that holds more than
            tensors, or a config that contradicts it.
        ConfigError: a config that cannot be read.
    """
    path = _locate(Path(path))
    tensors, metadata = _read(path)
    if "ecgcore_format" in metadata:
        model = _build(path, *_own(path, tensors, metadata, config))
    else:
        beside = _config_beside(path) if config is None else None
        try:
            _, full, state, report = compat.convert_state_dict(tensors, config=config or beside)
        except CheckpointError as error:
            source = "" if beside is None else f" (config: {beside.name}, beside it)"
            raise CheckpointError(f"{path}: {error}{source}") from None
        model = _build(path, full, None, state)
        model.report = report  # type: ignore[assignment]
    return model if device is None else model.to(device)


def _own(
    path: Path, tensors: dict[str, Tensor], metadata: Mapping[str, str], config: Config | None
) -> tuple[dict[str, Any], ModelCard, dict[str, Tensor]]:
    """Config, card and state of a checkpoint of ours."""
    version = metadata["ecgcore_format"]
    if not version.isdigit() or int(version) > FORMAT:
        raise CheckpointError(
            f"{path} has format {version}, this ecgcore reads up to {FORMAT}; a newer one is needed"
        )
    try:
        stored = models.read_config(json.loads(metadata["config"]))
        card = ModelCard.from_json(metadata["card"])
    except (KeyError, json.JSONDecodeError, ConfigError) as error:
        raise CheckpointError(f"{path} has unusable metadata: {error}") from None
    if config is None:
        return stored, card, tensors

    if isinstance(config, Mapping) and not config.keys() & {"model_name", "model"}:
        config = {**config, "model_name": stored["model_name"]}
    given = models.read_config(config)
    wrong = [
        f"{section}.{key} is {value!r}, the checkpoint has {stored.get(section, {}).get(key)!r}"
        for section in compat.NETWORKS
        for key, value in given.get(section, {}).items()
        if stored.get(section, {}).get(key) != value
    ]
    if given["model_name"] != stored["model_name"]:
        wrong = [f"it is for {given['model_name']}, the checkpoint holds {stored['model_name']}"]
    if wrong:
        raise CheckpointError(f"{path}: config and checkpoint disagree: " + "; ".join(wrong))
    if "diffusion" in given:
        stored["diffusion"] = {**stored.get("diffusion", {}), **given["diffusion"]}
        card = dataclasses.replace(card, diffusion=stored["diffusion"])
    return stored, card, tensors


def _build(
    path: Path, config: dict[str, Any], card: ModelCard | None, state: Mapping[str, Tensor]
) -> nn.Module:
    # On the meta device no weights are drawn, which would take time and the caller's random
    # numbers.
    try:
        with torch.device("meta"):
            model = models.from_config(config)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None
    own = {
        key: (tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor)
        .detach()
        .clone(memory_format=torch.contiguous_format)
        for key, tensor in state.items()
    }
    try:
        model.load_state_dict(own, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: {' '.join(str(error).split())}") from None
    if any(tensor.is_meta for tensor in model.state_dict().values()):
        raise CheckpointError(f"{path}: its config has a critic, but the file has no tensors of it")
    model.card = card or _implied_card(model)  # type: ignore[assignment]
    sampling.bind(model)
    return model.eval()


def _implied_card(model: Any) -> ModelCard:
    """What a model's config says of its data, the reference's habits where it says nothing."""
    config = model.config
    usual: dict[str, Any] = {"fs": 100.0, "scale": 1.0, "basis": "I-aVF"}
    if isinstance(model, models.Generator):
        usual |= model.usual
        if model.discriminator is not None:
            usual["length"] = model.discriminator.length
    else:
        usual["length"] = config["model"].get("s4_lmax", _REFERENCE_LENGTH)
        usual["diffusion"] = {**compat.DIFFUSION, **config.get("diffusion", {})}
    dataset = config.get("dataset", {})
    names = {"segment_length": "length", "sampling_rate": "fs", "scale": "scale", "basis": "basis"}
    usual |= {name: dataset[key] for key, name in names.items() if key in dataset}
    usual["length"] = int(usual["length"])
    return ModelCard.of_reference(channels=model.out_channels, classes=model.num_classes, **usual)


def _unwrapped(model: nn.Module) -> nn.Module:
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(model, parallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def _locate(path: Path) -> Path:
    if path.is_dir():
        if (path / _RUN_FILE).is_file():
            return path / _RUN_FILE
        numbered = [p for p in path.glob("*.pkl") if p.stem.isdigit()]
        if not numbered:
            raise FileNotFoundError(
                f"folder {path} holds no checkpoint ({_RUN_FILE}, or SynthECG's <number>.pkl)"
            )
        return max(numbered, key=lambda p: int(p.stem))
    if not path.exists():
        raise FileNotFoundError(f"checkpoint {path} does not exist")
    return path


def _read(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The file's content and its safetensors metadata; a pickle has none."""
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
        except SafetensorError as error:
            raise CheckpointError(f"{path} is truncated or no safetensors file: {error}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols: what cannot be read raises
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file from anywhere can make the reader fail in any way
        raise CheckpointError(_why_unreadable(path, error)) from None
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds {type(content).__name__}, not a checkpoint's dict of tensors"
        )
    return content, {}


def _why_unreadable(path: Path, error: Exception) -> str:
    """The reader's error in one line of ours; its own recommends to run the file's code."""
    text = str(error).strip()
    if not isinstance(error, pickle.UnpicklingError):
        reason = (text.splitlines() or [type(error).__name__])[0]
        return f"{path} is truncated or no checkpoint: {reason}"
    if found := re.search(r"(?:GLOBAL|class|function) ([\w.]+)", text):
        return (
            f"{path} is refused: beside tensors it holds {found[1]}, which could run code; nothing "
            "in it was executed"
        )
    found = re.search(r"Unsupported operand \d+", text)
    reason = found[0] if found else "not a file that torch.save wrote"
    return f"{path} is truncated or no checkpoint of tensors: {reason}; nothing in it was executed"


def _config_beside(path: Path) -> Path | None:
    """The JSON config that lies in the checkpoint's folder, as SynthECG's runs have it."""
    own_names = [path.with_suffix(".json"), path.with_name("config.json")]
    files = [file for file in own_names if file.is_file()][:1] or sorted(path.parent.glob("*.json"))
    configs = []
    for file in files:
        try:
            models.read_config(file)
        except ConfigError as error:
            if file.name.startswith("config") or file in own_names:
                text = str(error).removeprefix(f"{file}: ")
                raise ConfigError(f"{file}, beside the checkpoint: {text}") from None
            continue  # some other JSON file
        configs.append(file)
    if len(configs) > 1:
        raise CheckpointError(
            f"{path}: several configs lie beside it ({', '.join(c.name for c in configs)}); "
            "say which by config="
        )
    return configs[0] if configs else None

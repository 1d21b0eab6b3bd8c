"""Foreign state dicts into ours, and ours into theirs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ecgcore import models
from ecgcore.compat._families import FAMILIES, Family, recognise
from ecgcore.compat._gan import to_reference
from ecgcore.compat._rules import rename, to_old_weight_norm
from ecgcore.errors import CheckpointError
from ecgcore.nn import SSKernelDiag

NETWORKS = ("model", "spade_cfg", "generator", "discriminator")
"""Sections of a config that describe networks."""

# Names under which the authors' scripts put a state dict into the file, by the network it is.
_WRAPPERS = {
    "model_state_dict": "model",
    "state_dict": "model",
    "stat_dict": "model",
    "modelG_state_dict": "generator",
    "netG_state_dict": "generator",
    "modelD_state_dict": "discriminator",
    "netD_state_dict": "discriminator",
}
# What wrappers for several devices and compilers put in front of every key.
_PREFIXES = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class Report:
    """What became of a foreign checkpoint's keys.

    Attributes:
        model_name: our class.
        title: the model's name in the field.
        renamed: source key to our key, where they differ.
        dropped: source key to the reason why it is not needed.
        kept: number of tensors taken over.
    """

    model_name: str
    title: str
    kept: int
    renamed: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.title}: {self.kept} tensors, {len(self.renamed)} of them renamed"]
        lines += [f"  dropped {key}: {reason}" for key, reason in self.dropped.items()]
        return "\n".join(lines)


def convert_state_dict(
    state_dict: Mapping[str, Any],
    *,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
) -> tuple[str, dict[str, Any], dict[str, Tensor], Report]:
    """Turn a checkpoint of SSSD-ECG, SynthECG or deepfake-ecg into one of ours.

    Args:
        state_dict: what ``torch.load`` gave: a state dict, or a dict that wraps one
            (``model_state_dict`` beside the optimiser's, ``modelG_state_dict`` and
            ``modelD_state_dict``, and so on). Keys may carry the ``module.`` of ``DataParallel``;
            weight norm may be written in its old or its new form.
        config: path or mapping, this project's sections or the original repository's. It tells what
            the tensors do not (the noise schedule above all: 200 steps, 1e-4 to 0.02 by default)
            and must not contradict what they do.

    Returns:
        ``(model_name, config, state_dict, report)``. ``models.from_config(config)`` builds the
        model, which takes that ``state_dict``; ``model_name`` is its class. Of a GAN it is the
        generator, with the critic, if the checkpoint has it, as ``discriminator``. Tensors that
        need no change are the given ones, not copies.

    Raises:
        CheckpointError: an unknown model, or one that this version cannot build; a key without a
            place, a missing or misshapen tensor (all of them in one message); a config of another
            model.
        ConfigError: a config that cannot be read.
    """
    networks, dropped = unwrap(state_dict)
    name = "generator" if "generator" in networks else next(iter(networks))
    source, prefix = _without_prefix(networks.pop(name))
    family = recognise(source)
    layout = family.layout
    if layout is None:
        raise CheckpointError(
            f"the checkpoint holds {family.title}, {family.why_not} "
            f"(ecgcore opens {', '.join(f.title for f in FAMILIES if f.layout is not None)})"
        )
    for other, tensors in networks.items():  # a critic goes with its generator
        source |= {f"{other}.{key}": value for key, value in _without_prefix(tensors)[0].items()}
    given = _read_config(config, family)
    renamed = rename(layout.rules, source)
    sections = layout.infer(renamed.state, given, source)
    kept = {key: value for key, value in given.items() if key not in (*NETWORKS, "diffusion")}
    result = {**kept, "model_name": family.model_name, **sections}
    model = _on_meta(result)
    targets = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    targets.update(layout.shapes(renamed.state, sections))
    renamed.match(f"the {family.title} checkpoint", targets)
    report = Report(
        family.model_name,
        family.title,
        len(renamed.state),
        {prefix + k: ours for ours, k in renamed.source.items() if prefix + k != ours},
        {**dropped, **{prefix + key: reason for key, reason in renamed.dropped.items()}},
    )
    completed: Any = model.config  # the defaults filled in
    state = {key: renamed.state[key] for key in targets}  # in the order of the module
    return family.model_name, dict(completed), state, report


def export_state_dict(
    model: nn.Module, *, weight_norm: Literal["old", "new"] = "new"
) -> dict[str, Tensor]:
    """The state dict of a model or layer in the references' layout, for their code to load.

    Args:
        model: any module; the names of ours are the references' names, so what is left to do is the
            weight norm and what they store without using it. A GAN's generator comes without its
            critic, which is exported by itself.
        weight_norm: names of weight-normalised weights: ``"old"``, ``weight_g`` and ``weight_v``,
            as in the original SSSD-ECG and in DSAT-ECG; ``"new"``, torch's parametrization, as in
            SynthECG's SSSD-ECG.

    Returns:
        Contiguous tensors on the CPU, every number as it is in the model (a layer that a GAN's
        reference stores and never uses is zeros), ready for
        ``torch.save({"model_state_dict": ...}, path)``.

    Raises:
        ValueError: another ``weight_norm``.
    """
    if weight_norm not in ("old", "new"):
        raise ValueError(
            f"export_state_dict: weight_norm must be 'old' or 'new', got {weight_norm!r}"
        )
    state = to_reference(model) if isinstance(model, models.Generator) else model.state_dict()
    for name, module in model.named_modules():
        if isinstance(module, SSKernelDiag):  # kept by the reference beside the parts it uses
            state[f"{name}.A".removeprefix(".")] = torch.view_as_real(module.stored_matrix())
    return {
        to_old_weight_norm(key) if weight_norm == "old" else key: (
            tensor.detach().cpu().contiguous().clone()
        )
        for key, tensor in state.items()
    }


def unwrap(content: Mapping[str, Any]) -> tuple[dict[str, dict[str, Tensor]], dict[str, str]]:
    """The state dicts in a loaded file, by network, and what else there is with why it is dropped.

    Raises:
        CheckpointError: the file holds no state dict.
    """
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"a checkpoint must hold a dict of tensors, this one holds {type(content).__name__}"
        )
    found = {_WRAPPERS[k]: v for k, v in content.items() if k in _WRAPPERS and v is not None}
    dropped = {}
    if found:
        for key in content.keys() - _WRAPPERS.keys():
            optimizer = "optim" in str(key).lower()
            dropped[str(key)] = "state of the optimiser" if optimizer else "not part of the model"
    else:
        found = {"model": content}
    for name, state in found.items():
        if not isinstance(state, Mapping) or not state:
            raise CheckpointError(f"the checkpoint's {name} is no dict of tensors")
        for key, value in state.items():
            if not isinstance(key, str) or not isinstance(value, Tensor):
                raise CheckpointError(
                    "a checkpoint must hold a dict of tensors, but "
                    f"{key!r} is {type(value).__name__}"
                )
    return {name: dict(state) for name, state in found.items()}, dropped


def _without_prefix(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    prefix = ""
    while start := next((p for p in _PREFIXES if all(k.startswith(p) for k in state)), ""):
        state = {key.removeprefix(start): tensor for key, tensor in state.items()}
        prefix += start
    return state, prefix


def _read_config(
    config: str | os.PathLike[str] | Mapping[str, Any] | None, family: Family
) -> dict[str, Any]:
    if config is None:
        return {}
    if isinstance(config, Mapping) and not config.keys() & {
        "model_name",
        "model",
        "spade_cfg",
        "wavenet_config",
    }:
        config = {**config, "model_name": family.model_name}
    given = models.read_config(config)
    # Without its s4_ keys an SSSD-ECG config cannot be told from a DSAT-ECG one: sizes decide then.
    twins = {"SSSDECG", "DSATECG"}
    same = given["model_name"] == family.model_name
    mixed_up = "spade_cfg" not in given and {given["model_name"], family.model_name} <= twins
    if not same and not mixed_up:
        raise CheckpointError(
            f"the config is for {given['model_name']}, the checkpoint holds {family.title}"
        )
    return given


def _on_meta(config: Mapping[str, Any]) -> nn.Module:
    """The model without memory for its weights, and without drawing them."""
    with torch.device("meta"):
        return models.from_config(config)

"""Checkpoints of the GANs: SynthECG's, the SSSD-ECG authors' own, and deepfake-ecg's generator.

A generator's keys come as they are, those of its critic below ``discriminator.``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ecgcore.compat._rules import Rule
from ecgcore.errors import CheckpointError
from ecgcore.models.critic import WIDTHS, output_lengths
from ecgcore.models.gan import CRITIC, Generator
from ecgcore.nn.unused import unused_shapes

_NEVER_USED = "built and stored by the reference, whose forward pass never uses it"

RULES = (
    Rule(r".+\.Conv1dTrans\.(weight|bias)", reason=_NEVER_USED),
    Rule(r"ppfilter1\.(weight|bias)", reason=_NEVER_USED),
    Rule(r"(.+)", r"\1"),
)
WAVEGAN_RULES = (Rule(r"bn_deconv1\..+", reason=_NEVER_USED), *RULES)
DEEPFAKE_RULES = (Rule(r"fc1\.(weight|bias)", reason=_NEVER_USED), *RULES)

USUAL_LENGTH = 1000
"""Of the signals that the references' critics judge."""


@dataclass(frozen=True)
class Sizes:
    """Where a generator's sizes stand: by setting, the key of a tensor, the axis, and a divisor."""

    title: str
    channels: str
    """the setting that counts channels"""
    sizes: Mapping[str, tuple[str, int, int]]
    samples: int
    """a signal's length is a multiple of this"""
    section: str = "generator"

    def infer(
        self, state: Mapping[str, Tensor], given: Mapping[str, Any], source: Mapping[str, Tensor]
    ) -> dict[str, dict[str, Any]]:
        """The sections of a config: what the tensors show, then ``given``, then defaults.

        Raises:
            CheckpointError: a needed tensor is missing, or ``given`` contradicts the tensors.
        """
        seen = {
            name: self._size(source, key, axis) // divisor
            for name, (key, axis, divisor) in self.sizes.items()
            if name != "latent_dim" or key in source  # deepfake-ecg never uses it
        }
        filter_length = source.get("ppfilter1.weight")
        seen["post_proc_filt_len"] = 0 if filter_length is None else filter_length.shape[-1]
        common = {key: seen.pop(key) for key in ("model_size", self.channels)}
        sections = (
            {"model": {**common, **seen}}
            if self.section == "model"
            else {"model": common, self.section: seen}
        )
        if any(key.startswith(f"{CRITIC}.") for key in state):
            sections[CRITIC] = self._critic(state, given, common["model_size"])
        wrong = [
            f"{section}.{key} is {given[section][key]!r}, the tensors show {value}"
            for section, values in sections.items()
            for key, value in values.items()
            if given.get(section, {}).get(key, value) != value
        ]
        if wrong:
            raise CheckpointError("config and checkpoint disagree: " + "; ".join(wrong))
        return {
            section: {**given.get(section, {}), **values} for section, values in sections.items()
        }

    def _size(self, state: Mapping[str, Tensor], key: str, axis: int) -> int:
        if key not in state:
            raise CheckpointError(f"{self.title} checkpoint: {key} is missing")
        if state[key].dim() <= axis:
            raise CheckpointError(
                f"{self.title} checkpoint: {key} has shape {tuple(state[key].shape)}"
            )
        return state[key].shape[axis]

    def _critic(
        self, state: Mapping[str, Tensor], given: Mapping[str, Any], model_size: int
    ) -> dict[str, Any]:
        """The section of the critic.

        Its last layer tells the length of its signals up to 255 samples. Where the config does not
        say, it is one that fits and that the generator can make: the references' 1000, else a
        multiple of 500, else any."""
        size = self._size(state, f"{CRITIC}.conv1.weight", 0)
        inputs = self._size(state, f"{CRITIC}.fc1.weight", 1)
        last, rest = divmod(inputs, WIDTHS[-1] * size)
        section = {} if size == model_size else {"model_size": size}
        said = given.get(CRITIC, {}).get("length")
        said = said or given.get("dataset", {}).get("segment_length")
        if said is not None:
            if rest or not isinstance(said, int) or output_lengths(said)[-1] != last:
                raise CheckpointError(
                    f"config and checkpoint disagree: signals of {said!r} samples, but "
                    f"{CRITIC}.fc1.weight is for {inputs} numbers"
                )
            return section | {"length": said}
        longest = 256 * (last + 3)
        fitting = [
            length
            for length in range(self.samples, longest, self.samples)
            if output_lengths(length)[-1] == last
        ]
        if rest or not fitting:
            raise CheckpointError(
                f"{self.title} checkpoint: {CRITIC}.fc1.weight is for {inputs} numbers, which "
                "signals of no length give"
            )
        length = min(fitting, key=lambda length: (length != USUAL_LENGTH, length % 500))
        return section | {"length": length}


WAVEGAN = Sizes(
    "WaveGAN*",
    "num_channels",
    {
        "model_size": ("fc1.weight", 0, 5),
        "num_channels": ("deconv_7.conv1d.weight", 0, 1),
        "latent_dim": ("fc1.weight", 1, 1),
        "label_embed_classes": ("bn_deconv2.embed.weight", 0, 1),
    },
    125,
)
COND_P2P = Sizes(
    "Pulse2Pulse",
    "n_channels",
    {
        "model_size": ("conv_3.weight", 0, 1),
        "n_channels": ("conv_1.weight", 1, 1),
        "label_embed_classes": ("bn_conv1.embed.weight", 0, 1),
    },
    500,
)
DEEPFAKE = Sizes(
    "deepfake-ecg",
    "num_channels",
    {
        "model_size": ("conv_3.weight", 0, 1),
        "num_channels": ("conv_1.weight", 1, 1),
        "latent_dim": ("fc1.weight", 1, 1),
    },
    2500,
    section="model",
)


def to_reference(model: Generator) -> dict[str, Tensor]:
    """The generator's own tensors in the reference's layout and order, without the critic's.

    Layers that the reference stores and never uses come back as zeros.
    """
    state = {k: v for k, v in model.state_dict().items() if not k.startswith(f"{CRITIC}.")}
    like = next(iter(state.values()))
    for key, shape in unused_shapes(model).items():
        counter = key.endswith("num_batches_tracked")
        state[key] = torch.zeros(shape, dtype=torch.int64 if counter else like.dtype)
    return dict(sorted(state.items(), key=lambda item: _place(item[0])))


def _place(key: str) -> tuple[int, int, bool]:
    """Where the reference's module stands, among those of a generator."""
    kinds = ("fc", "deconv_", "conv_", "bn_conv", "bn_deconv", "ppfilter")
    found = re.match(r"([a-z_]+)(\d+)", key)
    assert found is not None
    return kinds.index(found[1]), int(found[2]), "Conv1dTrans" in key

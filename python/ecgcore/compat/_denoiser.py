"""What the checkpoints of the diffusion models have in common: sizes of the trunk."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ecgcore.errors import CheckpointError

BLOCKS = "residual_layer.residual_blocks"
FIRST = f"{BLOCKS}.0"
_DIRECTION = "parametrizations.weight.original1"

DIFFUSION = {"T": 200, "beta_0": 0.0001, "beta_T": 0.02}
"""The noise schedule of every published SSSD-ECG and DSAT-ECG."""


def schedule(given: Mapping[str, Any]) -> dict[str, Any]:
    """The section ``diffusion`` of a config: no tensor tells it."""
    return {**DIFFUSION, **given.get("diffusion", {})}


class Tensors:
    """A state dict under our names, asked for shapes.

    Args:
        title: the model's name in the field, for errors.
    """

    def __init__(self, title: str, state: Mapping[str, Tensor]) -> None:
        self._title, self._state = title, state

    def __contains__(self, key: str) -> bool:
        return key in self._state

    def shape(self, key: str, dims: int) -> tuple[int, ...]:
        """Raises CheckpointError where the tensor is missing or has other dimensions."""
        if key not in self._state:
            raise CheckpointError(f"{self._title} checkpoint: {key} is missing")
        if self._state[key].dim() != dims:
            raise CheckpointError(
                f"{self._title} checkpoint: {key} must have {dims} dimensions, "
                f"got shape {tuple(self._state[key].shape)}"
            )
        return tuple(self._state[key].shape)

    def trunk(self) -> dict[str, Any]:
        """The keys of a ``model`` section that both diffusion models have."""
        found = (re.match(rf"{BLOCKS}\.(\d+)\.", key) for key in self._state)
        blocks = {int(m[1]) for m in found if m}
        if blocks != set(range(len(blocks))):
            raise CheckpointError(
                f"{self._title} checkpoint: {BLOCKS} are numbered {sorted(blocks)}"
            )
        res_channels, in_channels, _ = self.shape(f"init_conv.0.conv.{_DIRECTION}", 3)
        step_mid, step_in = self.shape("residual_layer.fc_t1.weight", 2)
        sizes: dict[str, Any] = {
            "in_channels": in_channels,
            "res_channels": res_channels,
            "skip_channels": self.shape(f"{FIRST}.skip_conv.{_DIRECTION}", 3)[0],
            "num_res_layers": len(blocks),
            "out_channels": self.shape("final_conv.2.conv.weight", 3)[0],
            "diffusion_step_embed_dim_in": step_in,
            "diffusion_step_embed_dim_mid": step_mid,
            "diffusion_step_embed_dim_out": self.shape("residual_layer.fc_t2.weight", 2)[0],
            "label_embed_classes": 0,
        }
        if "embedding.weight" in self:
            classes, width = self.shape("embedding.weight", 2)
            sizes |= {"label_embed_classes": classes, "label_embed_dim": width}
        return sizes


def contradictions(name: str, given: Mapping[str, Any], seen: Mapping[str, Any]) -> list[str]:
    """Each value of section ``name`` of a config that the tensors show to be another."""
    return [
        f"{name}.{key} is {given[key]!r}, the tensors show {value}"
        for key, value in seen.items()
        if key in given and given[key] != value
    ]


def refuse(wrong: list[str]) -> None:
    """Raise CheckpointError for contradictions, if there are any."""
    if wrong:
        raise CheckpointError("config and checkpoint disagree: " + "; ".join(wrong))

"""SSSD-ECG checkpoints, of SynthECG and of its authors' own repository (AI4HealthUOL)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ecgcore.compat._rules import WEIGHT_NORM, Rule
from ecgcore.errors import CheckpointError
from ecgcore.nn.ssm_kernel import nodes_length

RULES = (
    *WEIGHT_NORM,
    Rule(r"(.+)", r"\1"),
)

_BLOCKS = "residual_layer.residual_blocks"
_FIRST = f"{_BLOCKS}.0"
_KERNEL = f"{_FIRST}.S41.s4_layer.kernel.kernel"
_DIRECTION = "parametrizations.weight.original1"


DIFFUSION = {"T": 200, "beta_0": 0.0001, "beta_T": 0.02}
"""The noise schedule of every published SSSD-ECG and DSAT-ECG."""


def infer(state: Mapping[str, Tensor], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The sections ``model`` and ``diffusion`` of a config: what the tensors show, then ``given``,
    then defaults.

    Args:
        state: under our names.
        given: the config that came with the checkpoint, if any.

    Raises:
        CheckpointError: a needed tensor is missing, or ``given`` contradicts the tensors.
    """

    diffusion = {**DIFFUSION, **given.get("diffusion", {})}
    given = given.get("model", {})

    def shape(key: str, dims: int) -> tuple[int, ...]:
        if key not in state:
            raise CheckpointError(f"SSSD-ECG checkpoint: {key} is missing")
        if state[key].dim() != dims:
            raise CheckpointError(
                f"SSSD-ECG checkpoint: {key} must have {dims} dimensions, "
                f"got shape {tuple(state[key].shape)}"
            )
        return tuple(state[key].shape)

    blocks = {int(m[1]) for key in state if (m := re.match(rf"{_BLOCKS}\.(\d+)\.", key))}
    if blocks != set(range(len(blocks))):
        raise CheckpointError(f"SSSD-ECG checkpoint: {_BLOCKS} are numbered {sorted(blocks)}")
    directions, _, modes, _ = shape(f"{_KERNEL}.C", 4)
    res_channels, in_channels, _ = shape(f"init_conv.0.conv.{_DIRECTION}", 3)
    step_mid, step_in = shape("residual_layer.fc_t1.weight", 2)
    labelled = "embedding.weight" in state
    seen: dict[str, Any] = {
        "in_channels": in_channels,
        "res_channels": res_channels,
        "skip_channels": shape(f"{_FIRST}.skip_conv.{_DIRECTION}", 3)[0],
        "num_res_layers": len(blocks),
        "out_channels": shape("final_conv.2.conv.weight", 3)[0],
        "diffusion_step_embed_dim_in": step_in,
        "diffusion_step_embed_dim_mid": step_mid,
        "diffusion_step_embed_dim_out": shape("residual_layer.fc_t2.weight", 2)[0],
        "s4_d_state": 2 * modes,
        "s4_bidirectional": int(directions == 2),
        "s4_layernorm": int(f"{_FIRST}.S41.norm_layer.weight" in state),
        "label_embed_classes": shape("embedding.weight", 2)[0] if labelled else 0,
    }
    if labelled:
        seen["label_embed_dim"] = shape("embedding.weight", 2)[1]
    wrong = [
        f"model.{key} is {given[key]!r}, the tensors show {value}"
        for key, value in seen.items()
        if key in given and given[key] != value
    ]

    lengths = node_lengths(state, given.get("s4_lmax"))
    if "s4_lmax" in given:
        wrong += [
            f"model.s4_lmax is {given['s4_lmax']!r}, {key} has the nodes of {length}"
            for key, length in lengths.items()
            if not _is_doubled(length, given["s4_lmax"])
        ]
    if wrong:
        raise CheckpointError("config and checkpoint disagree: " + "; ".join(wrong))

    section = {**given, **seen, "s4_lmax": max(lengths.values())}
    if any(length % 2 for length in lengths.values()):
        section.setdefault("odd_length", "reference")
    return {"diffusion": diffusion, "model": section}


def node_lengths(state: Mapping[str, Tensor], s4_lmax: Any) -> dict[str, int]:
    """Internal length of every S4 kernel, by the key of its nodes.

    The first node's angle, 2 pi / L, tells it. Where the nodes hold no numbers (meta tensors) or
    none that make sense, their count, L // 2 + 1, does, and ``s4_lmax`` decides between even and
    odd.
    """
    lengths = {}
    for key, omega in state.items():
        if not key.endswith(".kernel.kernel.omega"):
            continue
        if omega.dim() != 2 or omega.shape[0] < 1:
            raise CheckpointError(
                f"SSSD-ECG checkpoint: {key} must have shape (L // 2 + 1, 2), "
                f"got {tuple(omega.shape)}"
            )
        length = nodes_length(omega)
        if length is None:
            length = max(2 * (omega.shape[0] - 1), 1)
            if s4_lmax == length + 1:
                length += 1
        lengths[key] = length
    if not lengths:
        raise CheckpointError("SSSD-ECG checkpoint: the nodes (kernel.kernel.omega) are missing")
    return lengths


def node_shapes(lengths: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Shapes of the buffers ``omega`` and ``z`` of kernels of these lengths.

    A kernel that was asked for more samples than it had holds twice the length from then on, and
    nothing forces all the kernels of a model to have been asked.
    """
    shapes = {}
    for key, length in lengths.items():
        for name in ("omega", "z"):
            shapes[key.removesuffix("omega") + name] = (length // 2 + 1, 2)
    return shapes


def _is_doubled(length: int, s4_lmax: Any) -> bool:
    if not isinstance(s4_lmax, int) or s4_lmax < 1:
        return False
    while s4_lmax < length:
        s4_lmax *= 2
    return s4_lmax == length

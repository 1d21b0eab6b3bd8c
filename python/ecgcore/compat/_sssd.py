"""SSSD-ECG checkpoints, of SynthECG and of its authors' own repository (AI4HealthUOL)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ecgcore.compat._denoiser import FIRST, Tensors, contradictions, refuse, schedule
from ecgcore.compat._rules import WEIGHT_NORM, Rule
from ecgcore.errors import CheckpointError
from ecgcore.nn.ssm_kernel import nodes_length

RULES = (
    *WEIGHT_NORM,
    Rule(r"(.+)", r"\1"),
)

_KERNEL = f"{FIRST}.S41.s4_layer.kernel.kernel"


def infer(state: Mapping[str, Tensor], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The sections ``model`` and ``diffusion`` of a config: what the tensors show, then ``given``,
    then defaults.

    Args:
        state: under our names.
        given: the config that came with the checkpoint, if any.

    Raises:
        CheckpointError: a needed tensor is missing, or ``given`` contradicts the tensors.
    """
    tensors, section = Tensors("SSSD-ECG", state), given.get("model", {})
    directions, _, modes, _ = tensors.shape(f"{_KERNEL}.C", 4)
    seen = tensors.trunk() | {
        "s4_d_state": 2 * modes,
        "s4_bidirectional": int(directions == 2),
        "s4_layernorm": int(f"{FIRST}.S41.norm_layer.weight" in tensors),
    }
    wrong = contradictions("model", section, seen)
    lengths = node_lengths(state, section.get("s4_lmax"))
    if "s4_lmax" in section:
        wrong += [
            f"model.s4_lmax is {section['s4_lmax']!r}, {key} has the nodes of {length}"
            for key, length in lengths.items()
            if not _is_doubled(length, section["s4_lmax"])
        ]
    refuse(wrong)
    section = {**section, **seen, "s4_lmax": max(lengths.values())}
    if any(length % 2 for length in lengths.values()):
        section.setdefault("odd_length", "reference")
    return {"diffusion": schedule(given), "model": section}


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

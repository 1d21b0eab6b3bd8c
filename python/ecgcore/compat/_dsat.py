"""DSAT-ECG checkpoints of SynthECG."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ecgcore.compat._denoiser import FIRST, Tensors, contradictions, refuse, schedule
from ecgcore.compat._rules import WEIGHT_NORM, Rule

RULES = (
    *WEIGHT_NORM,
    Rule(r"(.+)", r"\1"),
)

_LAYER = f"{FIRST}.spade_1"
_KERNEL = f"{_LAYER}.s4_module.s4.kernel.kernel"


def infer(state: Mapping[str, Tensor], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The sections ``model``, ``spade_cfg`` and ``diffusion``: what the tensors show, then
    ``given``, then defaults.

    Heads, radius of the attention, order of the layer norms, activation, weights and dropouts leave
    no trace in the tensors.

    Args:
        state: under our names.
        given: the config that came with the checkpoint, if any.

    Raises:
        CheckpointError: a needed tensor is missing, or ``given`` contradicts the tensors.
    """
    tensors = Tensors("DSAT-ECG", state)
    model, spade = given.get("model", {}), given.get("spade_cfg", {})
    trunk, layer = tensors.trunk(), _layer(tensors)
    lengths = internal_lengths(state)
    if lengths:
        layer["max_target_positions"] = max(lengths)
    refuse(contradictions("model", model, trunk) + contradictions("spade_cfg", spade, layer))
    return {
        "diffusion": schedule(given),
        "model": {**model, **trunk},
        "spade_cfg": {**spade, **layer},
    }


def internal_lengths(state: Mapping[str, Tensor]) -> set[int]:
    """The lengths that the kernels' ``C`` is corrected for.

    Kernels that nothing has run through yet hold 0: their ``C`` is plain, and is corrected by their
    first forward. Meta tensors hold no number.
    """
    pattern = r".+\.kernel\.kernel\.L"
    buffers = [t for key, t in state.items() if re.fullmatch(pattern, key) and not t.is_meta]
    return {int(t) for t in buffers if t.numel() == 1} - {0}


def _layer(tensors: Tensors) -> dict[str, Any]:
    """The settings of SPADE layers that tensors show."""
    modes = tensors.shape(f"{_KERNEL}.C", 4)[2]
    combine = "stack"
    if f"{_LAYER}.norm_global.weight" in tensors:
        combine = "concat" if f"{_LAYER}.aggregate.weight" in tensors else "add"
    return {
        "decoder.embed_dim": tensors.shape(f"{_LAYER}.self_attn.q.weight", 2)[0],
        "decoder.ffn_embed_dim": tensors.shape(f"{_LAYER}.fc1.weight", 2)[0],
        "s4_state_dim": 2 * modes,
        "s4_n_ssm": tensors.shape(f"{_KERNEL}.w_imag", 2)[0],
        "s4_local_combine": combine,
        "scale_attn": f"{_LAYER}.attn_ln.weight" in tensors,
        "scale_fc": f"{_LAYER}.ffn_layernorm.weight" in tensors,
        "scale_resids": f"{_LAYER}.w_resid" in tensors,
    }

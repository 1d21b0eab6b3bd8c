"""The settings of SPADE layers, under the dotted names the reference's configuration has."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

SPADE_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "decoder.embed_dim": 512,
        "decoder.ffn_embed_dim": 2048,
        "decoder.attention_heads": 8,
        "decoder.normalize_before": False,
        "encoder.embed_dim": 512,
        "activation_fn": "relu",
        "dropout": 0.1,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "relu_dropout": 0.0,
        "quant_noise.pq": 0,
        "quant_noise.pq_block_size": 8,
        "cross_self_attention": False,
        "export": False,
        "max_target_positions": 1024,
        "local_radius": 127,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "attention_type": "full",
        "use_relative_attention": False,
        "s4_every_n_layers": 1,
        "s4_local_combine": "add",
        "s4_weight": 0.5,
        "s4_state_dim": 64,
        "s4_channels": 1,
        "s4_dt_min": 1e-3,
        "s4_dt_max": 0.1,
        "s4_lr": None,
        "s4_n_ssm": 1,
        "scale_attn": False,
        "scale_heads": False,
        "scale_fc": False,
        "scale_resids": False,
    }
)
"""What DSAT-ECG runs with: fairseq's transformer defaults and SPADE's."""


def spade_config(cfg: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """``cfg`` over :data:`SPADE_DEFAULTS`.

    Raises:
        ValueError: for a name that is none of them.
    """
    given = dict(cfg or {})
    for name in given:
        if name not in SPADE_DEFAULTS:
            near = difflib.get_close_matches(name, SPADE_DEFAULTS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"SPADE settings have no {name!r}{hint}")
    return {**SPADE_DEFAULTS, **given}

"""The settings of SPADE layers, under the dotted names the reference's configuration has."""

from __future__ import annotations

import difflib
import math
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


_CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"s4_local_combine": ("add", "concat", "stack")}
)
_LOWEST: Mapping[str, int] = MappingProxyType(
    {"quant_noise.pq": 0, "quant_noise.pq_block_size": 0, "local_radius": 0}
)


def spade_config(cfg: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """``cfg`` over :data:`SPADE_DEFAULTS`.

    Raises:
        ValueError: for a name that is none of them, or a value of another kind than the default's.
    """
    given = dict(cfg or {})
    for name, value in given.items():
        if name not in SPADE_DEFAULTS:
            near = difflib.get_close_matches(str(name), SPADE_DEFAULTS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"SPADE settings have no {name!r}{hint}")
        given[name] = _checked(name, value)
    return {**SPADE_DEFAULTS, **given}


def _checked(name: str, value: Any) -> Any:
    """``value`` as the type that the default of ``name`` has; whole floats pass for integers, 0 and
    1 for flags."""
    default = SPADE_DEFAULTS[name]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if default is None:  # s4_lr: a number, a mapping, JSON text or nothing
        return value
    if isinstance(default, bool):
        kind, right = "true or false", isinstance(value, (bool, int)) and value in (0, 1)
    elif isinstance(default, int):
        low = _LOWEST.get(name, 1)
        kind = f"an integer >= {low}"
        right = number and math.isfinite(value) and value == int(value) and value >= low
    elif isinstance(default, float):
        rate = name.endswith("dropout")
        kind = "a number in [0, 1)" if rate else "a finite number"
        right = number and math.isfinite(value) and (not rate or 0 <= value < 1)
    elif name in _CHOICES:
        kind, right = f"one of {', '.join(_CHOICES[name])}", value in _CHOICES[name]
    else:
        kind, right = "a name", isinstance(value, str)
    if not right:
        raise ValueError(f"SPADE settings: {name} must be {kind}, got {value!r}")
    return type(default)(value)

"""Which models the engine compiles: those built of exactly the layers it knows.

A plan computes what the layers of a model compute, without calling them. So it must know all of
them: every module by place and type, nothing beside them, no hooks. What has been changed by hand
runs as the module it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.nn.modules import module as nn_module

from ecgcore.models import dsat_ecg, sssd_ecg
from ecgcore.models.wavenet import Denoiser
from ecgcore.nn import elsm_s4, s4model, spade
from ecgcore.nn.conv import Conv, WeightNormConv1d, ZeroConv1d
from ecgcore.nn.linear import Linear
from ecgcore.nn.local_attention import LocalAttention
from ecgcore.nn.s4 import TransposedLinear

Places = Mapping[str, tuple[type[nn.Module], ...]]

_BLOCK = "residual_layer.residual_blocks.*"
_DENOISER: Places = {
    "init_conv": (nn.Sequential,),
    "init_conv.0": (Conv,),
    "init_conv.0.conv": (WeightNormConv1d,),
    "init_conv.1": (nn.ReLU,),
    "embedding": (nn.Embedding,),
    "residual_layer.fc_t1": (nn.Linear,),
    "residual_layer.fc_t2": (nn.Linear,),
    "residual_layer.residual_blocks": (nn.ModuleList,),
    f"{_BLOCK}.fc_t": (nn.Linear,),
    f"{_BLOCK}.fc_label": (nn.Linear,),
    f"{_BLOCK}.conv_layer": (Conv,),
    f"{_BLOCK}.conv_layer.conv": (WeightNormConv1d,),
    f"{_BLOCK}.res_conv": (WeightNormConv1d,),
    f"{_BLOCK}.skip_conv": (WeightNormConv1d,),
    "final_conv": (nn.Sequential,),
    "final_conv.0": (Conv,),
    "final_conv.0.conv": (WeightNormConv1d,),
    "final_conv.1": (nn.ReLU,),
    "final_conv.2": (ZeroConv1d,),
    "final_conv.2.conv": (nn.Conv1d,),
}
_S4_LAYER: Places = {
    "": (s4model.S4Layer,),
    ".s4_layer": (s4model.S4,),
    ".s4_layer.dropout": (nn.Identity, nn.Dropout1d),
    ".s4_layer.output_linear": (TransposedLinear,),
    ".norm_layer": (nn.LayerNorm, nn.Identity),
    ".dropout": (nn.Identity, nn.Dropout1d),
}
_SPADE_LAYER: Places = {
    "": (spade.SpadeDecoderLayer,),
    ".self_attn": (LocalAttention,),
    **{f".self_attn.{name}": (Linear,) for name in "qkvo"},
    ".self_attn.relative_attention_bias": (nn.Embedding,),
    ".s4_module": (elsm_s4.S4Module,),
    ".s4_module.s4": (elsm_s4.S4,),
    ".s4_module.s4.dropout": (nn.Identity, nn.Dropout),
    **{f".{name}": (Linear,) for name in ("aggregate", "fc1", "fc2")},
    **{
        f".{name}": (nn.LayerNorm,)
        for name in (
            "attn_ln",
            "norm_global",
            "norm_local",
            "self_attn_layer_norm",
            "ffn_layernorm",
            "final_layer_norm",
        )
    },
}


def _places(
    model: type[Denoiser], group: type[nn.Module], block: type[nn.Module], mixers: Mapping[str, Any]
) -> Places:
    return {
        "": (model,),
        **_DENOISER,
        "residual_layer": (group,),
        _BLOCK: (block,),
        **{
            f"{_BLOCK}.{name}{place}": types
            for name, places in mixers.items()
            for place, types in places.items()
        },
    }


_PLACES: Mapping[type, Places] = {
    sssd_ecg.SSSDECG: _places(
        sssd_ecg.SSSDECG,
        sssd_ecg.ResidualGroup,
        sssd_ecg.ResidualBlock,
        {"S41": _S4_LAYER, "S42": _S4_LAYER},
    ),
    dsat_ecg.DSATECG: _places(
        dsat_ecg.DSATECG,
        dsat_ecg.ResidualGroup,
        dsat_ecg.ResidualBlock,
        {"spade_1": _SPADE_LAYER, "spade_2": _SPADE_LAYER},
    ),
}

_ASKED = (".parametrizations", ".kernel")
"""Modules below these are asked for weights and spectra, so they may be of any kind."""


def _s4_is_plain(s4: Any) -> bool:
    return s4.hyper is None and s4.channels == 1 and s4.transposed


_SETTINGS: Mapping[type, Callable[[Any], bool]] = {
    WeightNormConv1d: lambda m: m.dilation == 1 and 2 * m.padding + 1 == m.weight.shape[2],
    nn.Conv1d: lambda m: (
        m.kernel_size == m.stride == (1,)
        and m.padding == (0,)
        and m.groups == 1
        and m.bias is not None
    ),
    s4model.S4: lambda m: m.activation == "gelu" and _s4_is_plain(m),
    elsm_s4.S4: lambda m: m.activation is None and _s4_is_plain(m),
}
"""Options that the models never set."""

_WIDE = f"{_BLOCK}.conv_layer.conv"
"""The place of the convolutions of width 3; all others have width 1."""

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def obstacle(model: object) -> str | None:
    """Why the engine does not compile ``model``; ``None`` where it does."""
    places = _PLACES.get(type(model))
    if places is None or not isinstance(model, Denoiser):
        return "it is neither an SSSDECG nor a DSATECG"
    if nn_module._global_forward_hooks or nn_module._global_forward_pre_hooks:
        return "all modules have a forward hook"
    for name, module in model.named_modules():
        if module.training:
            return f"{name or 'it'} is in train()"
        if any(getattr(module, hooks) for hooks in _HOOKS):
            return f"{name or 'it'} has a forward hook"
        if "forward" in vars(module):
            return f"{name or 'it'} has a forward of its own"
        if any(f"{part}." in f"{name}." for part in _ASKED):
            continue
        place = re.sub(r"residual_blocks\.\d+", "residual_blocks.*", name)
        fits = _SETTINGS.get(type(module))
        known = type(module) in places.get(place, ()) and (fits is None or fits(module))
        if isinstance(module, WeightNormConv1d):
            known = known and module.weight.shape[2] == (3 if place == _WIDE else 1)
        if not known:
            return f"{name} is not as the model's constructor makes it"
    kinds = {(p.device, p.dtype) for p in model.parameters() if p.is_floating_point()}
    if len(kinds) > 1:
        return "its parameters differ in device or dtype"
    return None

"""What the tests of the engine share: models of every option, and plan against module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ecgcore import engine
from ecgcore.models.wavenet import Denoiser
from ecgcore.nn import SpadeDecoderLayer
from ecgcore.testing.compare import relative_error
from tiny import tiny_dsat, tiny_sssd

LIMIT = 2e-5
"""Plan against module, relative to the largest value, in float32."""

SSSD_OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no layer norm": {"s4_layernorm": False},
    "causal": {"s4_bidirectional": False},
    "causal, no layer norm, state of 2": {
        "s4_bidirectional": False,
        "s4_layernorm": False,
        "s4_d_state": 2,
    },
    "state of 64": {"s4_d_state": 64},
    "odd internal length": {"s4_lmax": 39},
    "odd internal length as the reference": {"s4_lmax": 39, "odd_length": "reference"},
    "exact nodes": {"exact_nodes": True},
    "half sum": {"conjugate_pairs": False},
    "one block": {"num_res_layers": 1},
    "no classes": {"label_embed_classes": 0},
    "narrow skip": {"skip_channels": 1, "res_channels": 1},
    "wide skip": {"skip_channels": 19, "res_channels": 5},
    "other channels": {"in_channels": 3, "out_channels": 2},
    "dropout in training": {"s4_dropout": 0.3},
}
DSAT_OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "normalize before": {"decoder.normalize_before": True},
    "concat": {"s4_local_combine": "concat"},
    "concat, normalize before": {
        "s4_local_combine": "concat",
        "decoder.normalize_before": True,
    },
    "stack": {"s4_local_combine": "stack"},
    "stack, scale attn": {"s4_local_combine": "stack", "scale_attn": True},
    "scale attn": {"scale_attn": True},
    "scale fc": {"scale_fc": True},
    "scale resids": {"scale_resids": True},
    "all scales, normalize before": {
        "scale_attn": True,
        "scale_fc": True,
        "scale_resids": True,
        "decoder.normalize_before": True,
    },
    "little of the whole": {"s4_weight": 0.1},
    "only every other S4": {"s4_every_n_layers": 2},
    "blocks of one": {"local_radius": 0},
    "one head, tied systems": {"decoder.attention_heads": 1, "s4_n_ssm": 3},
    "short kernels": {"max_target_positions": 11},
    **{
        f"activation {name}": {"activation_fn": name}
        for name in (
            "relu_squared",
            "gelu",
            "gelu_fast",
            "gelu_accurate",
            "tanh",
            "swish",
            "linear",
        )
    },
}


def shaken(model: Any) -> Any:
    """The model with numbers where a fresh one has ones and zeros."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.3)
            if isinstance(module, SpadeDecoderLayer):
                for weight in (module.w_resid, module.c_attn):
                    if weight is not None:
                        weight.uniform_(0.5, 1.5)
    return model


def sssd(**options: Any) -> Denoiser:
    model: Denoiser = shaken(tiny_sssd(**options))
    return model


def dsat(spade: dict[str, Any] | None = None, **options: Any) -> Denoiser:
    model: Denoiser = shaken(tiny_dsat(spade=spade, **options))
    return model


def with_layers_without_s4(model: Denoiser) -> Denoiser:
    """A DSAT-ECG with layers that only a hand puts there: no S4, weighted heads, and a bias."""
    given = {**model.config["spade_cfg"], "s4_every_n_layers": 2, "scale_heads": True}
    for block in model.residual_layer.residual_blocks:
        block.spade_2 = SpadeDecoderLayer(given, layer_idx=1, has_relative_attention_bias=True)
    return shaken(model).eval()


def inputs(
    model: Denoiser, batch: int, length: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor | None]:
    """Signals, and multi-hot labels with weights."""
    x = torch.randn(batch, model.in_channels, length, dtype=dtype)
    if not model.num_classes:
        return x, None
    return x, torch.rand(batch, model.num_classes, dtype=dtype).round(decimals=1)


def prepared(
    model: Any, x: Tensor, labels: Tensor | None, times: Sequence[float], **options: Any
) -> engine.Evaluation:
    shape: Any = tuple(x.shape)
    return engine.prepare(model, labels, times, shape, device=x.device, dtype=x.dtype, **options)


def differences(
    model: Denoiser,
    batch: int,
    length: int,
    *,
    dtype: torch.dtype = torch.float32,
    module: Any = None,
    **options: Any,
) -> list[float]:
    """Relative differences of plan and module, at three times, in any order, and one of them
    twice."""
    x, labels = inputs(model, batch, length, dtype)
    times = [3.0, 0.0, 1.5]
    found = []
    evaluate = prepared(model, x, labels, times, **options)
    assert type(evaluate).__name__ == "PlanEvaluation", engine.obstacle(model)
    for i in (0, 2, 1, 2):
        eps = evaluate(torch.tensor([i]), x).clone()
        steps = torch.full((batch, 1), times[i], dtype=dtype)
        with torch.no_grad():
            expected = (module or model)(x, labels, steps)
        found.append(relative_error(eps, expected))
        x = torch.randn_like(x)
    return found

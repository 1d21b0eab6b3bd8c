"""Whole models through the sampling engine on a device, against the same models in double precision
on the CPU; and steps launched by :class:`ecgcore.engine.Replay` against plain ones."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ecgcore import engine, models
from ecgcore.models.wavenet import Denoiser
from ecgcore.testing.compare import Result, relative_error

LIMITS = {"fp32": 2e-5, "bf16": 5e-2}
STEPS = 8
"""More than Replay needs before it records."""
_TRUNK: dict[str, Any] = {
    "res_channels": 32,
    "skip_channels": 24,
    "num_res_layers": 2,
    "diffusion_step_embed_dim_in": 16,
    "diffusion_step_embed_dim_mid": 32,
    "diffusion_step_embed_dim_out": 32,
    "label_embed_classes": 5,
    "label_embed_dim": 8,
}
_SPADE = {"decoder.ffn_embed_dim": 96, "local_radius": 31, "max_target_positions": 250}
_MODELS: dict[str, dict[str, Any]] = {
    "SSSD-ECG": {"model_name": "SSSDECG", "model": {**_TRUNK, "s4_lmax": 250}},
    "SSSD-ECG, causal, no norms": {
        "model_name": "SSSDECG",
        "model": {**_TRUNK, "s4_lmax": 250, "s4_bidirectional": False, "s4_layernorm": False},
    },
    "DSAT-ECG": {"model_name": "DSATECG", "model": _TRUNK, "spade_cfg": _SPADE},
    "DSAT-ECG, norms in front": {
        "model_name": "DSATECG",
        "model": _TRUNK,
        "spade_cfg": {
            **_SPADE,
            "decoder.normalize_before": True,
            "s4_local_combine": "concat",
            "activation_fn": "gelu",
        },
    },
}


def _model(config: dict[str, Any]) -> Denoiser:
    torch.manual_seed(0)
    model = models.from_config(config)
    assert isinstance(model, Denoiser)
    with torch.no_grad():  # a fresh network only outputs zeros
        for parameter in model.final_conv.parameters():
            nn.init.normal_(parameter, std=0.1)
    return model.eval()


def _walk(evaluate: engine.Evaluation, x: Tensor, *, eager: bool) -> Tensor:
    """``x`` after a few steps of a toy sampler that counts on the device."""
    x, i = x.clone(), torch.zeros(1, dtype=torch.int64, device=x.device)

    def step() -> None:
        x.sub_(evaluate(i, x), alpha=0.1)
        i.add_(1)

    replay = engine.Replay(step, x.device, eager=eager)
    for _ in range(STEPS):
        replay()
    recorded = replay.graph is not None
    if recorded != (x.device.type == "cuda" and not eager):
        raise RuntimeError(f"engine.Replay: recorded is {recorded} on {x.device}, eager={eager}")
    return x


def check_plans(device: str) -> Iterator[Result]:
    """One result per model and precision, and one for its replayed steps."""
    for name, config in _MODELS.items():
        model = _model(config)
        exact = copy.deepcopy(model).double()
        x = torch.randn(3, model.in_channels, 201)
        labels = torch.eye(5)[[0, 2, 4]] + torch.eye(5)[[1, 2, 3]]
        times = [float(t) for t in range(STEPS)]
        index = 5
        with torch.no_grad():
            truth = exact(x.double(), labels.double(), torch.full((3, 1), times[index]))
        model.to(device)
        x, labels = x.to(device), labels.to(device)
        i = torch.tensor([index], device=x.device)
        for precision, limit in LIMITS.items():
            evaluate = engine.prepare(
                model,
                labels,
                times,
                (3, model.in_channels, 201),
                device=x.device,
                dtype=x.dtype,
                precision=precision,
            )
            error = relative_error(evaluate(i, x), truth)
            yield Result("engine", name, precision, "output", error, limit)
            replayed, eager = (_walk(evaluate, x, eager=eager) for eager in (False, True))
            error = relative_error(replayed, eager)
            yield Result("engine", f"{name}, replayed", precision, "output", error, LIMITS["fp32"])

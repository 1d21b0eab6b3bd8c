"""A small SSSD-ECG with weights that do something, for tests that need some model."""

from __future__ import annotations

from typing import Any

import torch

from ecgcore import models

SETTINGS: dict[str, Any] = {
    "in_channels": 8,
    "out_channels": 8,
    "res_channels": 6,
    "skip_channels": 4,
    "num_res_layers": 2,
    "diffusion_step_embed_dim_in": 8,
    "diffusion_step_embed_dim_mid": 10,
    "diffusion_step_embed_dim_out": 12,
    "s4_lmax": 40,
    "s4_d_state": 4,
    "label_embed_classes": 5,
    "label_embed_dim": 7,
}


def tiny_sssd(T: int = 4, **changes: Any) -> models.SSSDECG:
    """In ``eval()``, with a schedule of ``T`` steps. A fresh network would only output zeros."""
    config = {
        "model_name": "SSSDECG",
        "diffusion": {"T": T, "beta_0": 1e-4, "beta_T": 0.02},
        "model": {**SETTINGS, **changes},
    }
    model = models.from_config(config)
    assert isinstance(model, models.SSSDECG)
    with torch.no_grad():
        for parameter in model.final_conv.parameters():
            parameter.normal_(std=0.3)
    return model.eval()


def noise_of(model: models.SSSDECG, length: int = 40) -> torch.Tensor:
    """What the model makes of a fixed input."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, model.in_channels, length, generator=generator)
    y = torch.rand(2, model.num_classes, generator=generator) if model.num_classes else None
    with torch.no_grad():
        out: torch.Tensor = model(x, y, torch.tensor([0, 2]))
    return out

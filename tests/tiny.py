"""Small diffusion models with weights that do something, for tests that need some model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ecgcore import compat, models, sampling
from ecgcore.models.card import ModelCard

EIGHT = ("I", "V1", "V2", "V3", "V4", "V5", "V6", "aVF")
BETAS = {"beta_0": 1e-4, "beta_T": 0.02}
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


TRUNK = {key: value for key, value in SETTINGS.items() if not key.startswith("s4_")}
SPADE: dict[str, Any] = {
    "decoder.ffn_embed_dim": 10,
    "decoder.attention_heads": 3,
    "local_radius": 7,
    "s4_state_dim": 4,
    "max_target_positions": 48,
}


def tiny_sssd(T: int = 4, **changes: Any) -> models.SSSDECG:
    """In ``eval()``, with a schedule of ``T`` steps. A fresh network would only output zeros."""
    model = _awake(T, model_name="SSSDECG", model={**SETTINGS, **changes})
    assert isinstance(model, models.SSSDECG)
    return model


def tiny_dsat(T: int = 4, spade: dict[str, Any] | None = None, **changes: Any) -> models.DSATECG:
    """Likewise; its kernels are not corrected for their length yet."""
    settings = {"model": {**TRUNK, **changes}, "spade_cfg": {**SPADE, **(spade or {})}}
    model = _awake(T, model_name="DSATECG", **settings)
    assert isinstance(model, models.DSATECG)
    return model


def _awake(T: int, **config: Any) -> Any:
    diffusion = {"T": T, "beta_0": 1e-4, "beta_T": 0.02}
    model: Any = models.from_config({"diffusion": diffusion, **config})
    with torch.no_grad():
        for parameter in model.final_conv.parameters():
            parameter.normal_(std=0.3)
    return model.eval()


def loaded_sssd(T: int = 4, **changes: Any) -> Any:
    """``tiny_sssd`` as ``load`` would return it: with its card and ``sample``."""
    model: Any = tiny_sssd(T, **changes)
    settings = model.config["model"]
    model.card = ModelCard.of_reference(
        channels=settings["out_channels"],
        classes=settings["label_embed_classes"],
        length=settings["s4_lmax"],
        diffusion=model.config["diffusion"],
    )
    sampling.bind(model)
    return model


def noise_of(model: models.SSSDECG | models.DSATECG, length: int = 40) -> torch.Tensor:
    """What the model makes of a fixed input."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, model.in_channels, length, generator=generator)
    y = torch.rand(2, model.num_classes, generator=generator) if model.num_classes else None
    with torch.no_grad():
        out: torch.Tensor = model(x, y, torch.tensor([0, 2]))
    return out


def foreign(path: Path, model: torch.nn.Module, weight_norm: str = "new") -> Path:
    """Write a model as the references' training scripts do."""
    path.parent.mkdir(exist_ok=True)
    state = compat.export_state_dict(model, weight_norm=weight_norm)
    torch.save({"model_state_dict": state, "optimizer_state_dict": {"state": {}}}, path)
    return path

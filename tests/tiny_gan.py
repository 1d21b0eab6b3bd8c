"""Small GANs, for tests that need some generator and critic."""

from __future__ import annotations

from typing import Any

import torch

from ecgcore import models

CHANNELS = {"CondWaveGANGenerator": "num_channels", "CondP2PGenerator": "n_channels"}
NAMES = list(CHANNELS)


def gan_config(name: str = "CondWaveGANGenerator", *, critic: bool = True) -> dict[str, Any]:
    """Eight leads, five classes, 500 samples."""
    latent = {"latent_dim": 6} if name == "CondWaveGANGenerator" else {}
    config: dict[str, Any] = {
        "model_name": name,
        "model": {"model_size": 5, CHANNELS[name]: 8},
        "generator": {"label_embed_classes": 5, "post_proc_filt_len": 16, **latent},
    }
    if critic:
        config["discriminator"] = {"shift_factor": 1, "length": 500}
        config["dataset"] = {"segment_length": 500}
    return config


def tiny_gan(name: str = "CondWaveGANGenerator", *, critic: bool = True) -> models.Generator:
    """In ``eval()``, with running statistics that are not those of a fresh model."""
    model = models.from_config(gan_config(name, critic=critic))
    assert isinstance(model, models.Generator)
    generator = torch.Generator().manual_seed(5)
    for key, buffer in model.named_buffers():
        if key.endswith("running_mean"):
            buffer.normal_(std=0.1, generator=generator)
        elif key.endswith("running_var"):
            buffer.uniform_(0.5, 1.5, generator=generator)
    return model.eval()


def signals_of(model: models.Generator, samples: int = 500) -> torch.Tensor:
    """What the generator makes of a fixed latent."""
    shape = (2, *model.latent_shape(samples))
    noise = torch.empty(shape).uniform_(-1, 1, generator=torch.Generator().manual_seed(3))
    label = torch.tensor([[0, 1, 0, 0, 1.0], [0.5, 0, 0, 0, 0]])
    with torch.no_grad():
        out: torch.Tensor = model(noise, label)
    return out

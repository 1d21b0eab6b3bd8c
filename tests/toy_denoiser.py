"""A denoiser of one line, a schedule of six steps, and what the sampler tests draw with them."""

from __future__ import annotations

import torch

from ecgcore import diffusion

T = 6
SCHEDULE = diffusion.NoiseSchedule.linear(T, 1e-2, 0.2)
SHAPE = (3, 2, 5)
LABELS = torch.rand(3, 4)
MASK = torch.zeros(SHAPE, dtype=torch.bool)
MASK[:, 0] = True
MASK[1, 1, 2:] = True
FEW = [("ddim", {"steps": 4}), ("ddim", {"steps": 4, "eta": 0.5}), ("dpm++", {"steps": 4})]
ALL = [("ddpm", {}), *FEW]


def draw(**options):
    return diffusion.sample(model, SHAPE, LABELS, SCHEDULE, **options)


def model(x, label, steps):
    return 0.3 * x + 0.01 * steps[:, :, None] + label.sum(1)[:, None, None] / 10

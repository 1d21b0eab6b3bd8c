"""The training loss of a diffusion model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ecgcore.diffusion.schedule import NoiseSchedule

Denoiser = Callable[[Tensor, Tensor | None, Tensor], Tensor]
"""``model(x, label, steps)``: the noise in ``x``."""


def loss(
    model: Denoiser,
    x: Tensor,
    label: Tensor | None,
    schedule: NoiseSchedule,
    *,
    generator: torch.Generator | None = None,
    steps: Tensor | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """Mean squared error of the noise that ``model`` sees in noisy signals.

    ``mean (model(sqrt(alpha_bar_t) x + sqrt(1 - alpha_bar_t) z, label, t) - z)^2``, Ho et al.
    (2020), equation 14.

    Args:
        x: clean signals, ``(B, channels, L)``.
        label: what the model takes, ``(B, classes)`` or ``None``.
        generator: for what is not given; torch's default one if there is none. Steps are drawn
            first, then noise, both on the generator's device, so that a CPU generator gives the
            same numbers whatever device ``x`` is on.
        steps: 0-based steps, ``B`` integers of shape ``(B,)``, ``(B, 1)`` or ``(B, 1, 1)``.
        noise: standard normal ``z``, like ``x``.

    Returns:
        A scalar.

    Raises:
        ValueError: for shapes that do not fit or steps outside ``0 .. T-1``.
    """
    batch = x.shape[0]
    device = torch.device("cpu") if generator is None else generator.device
    if steps is None:
        steps = torch.randint(schedule.T, (batch, 1, 1), generator=generator, device=device)
    elif steps.shape not in ((batch,), (batch, 1), (batch, 1, 1)) or steps.is_floating_point():
        raise ValueError(
            f"diffusion.loss: steps must be integers of shape ({batch},), "
            f"got {steps.dtype} {tuple(steps.shape)}"
        )
    elif batch and (int(steps.min()) < 0 or int(steps.max()) >= schedule.T):
        raise ValueError(f"diffusion.loss: steps must lie in 0 .. {schedule.T - 1}")
    if noise is None:
        noise = torch.randn(x.shape, generator=generator, device=device)
    elif noise.shape != x.shape:
        raise ValueError(
            f"diffusion.loss: noise must be like x {tuple(x.shape)}, got {tuple(noise.shape)}"
        )
    noise = noise.to(x.device, x.dtype)
    t = steps.reshape(batch).cpu()
    alpha_bar = schedule.alpha_bar[t].reshape(batch, 1, 1).to(x.device)
    noisy = torch.sqrt(alpha_bar) * x + torch.sqrt(1 - alpha_bar) * noise
    predicted = model(noisy, label, t.reshape(batch, 1).to(x.device))
    return F.mse_loss(predicted, noise)

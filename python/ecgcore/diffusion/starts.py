"""Starting points between data and white noise: the Gaussian of each class's training segments.

A small network decides rhythm poorly at the noisiest steps, where hardly anything of the signal is
left to see. There the best denoiser is nearly that of a Gaussian with the data's mean and
covariance (Wang, Vastola, "The unreasonable effectiveness of Gaussian score approximation", 2024),
and its part of the way needs no steps: draw from the Gaussian, noise it to a middle step, go on
from there with the network. What such a start gives away must be said with the result: class and
place of the first beat come from it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ecgcore.diffusion.schedule import NoiseSchedule


def class_starts(
    x: Tensor,
    y: Tensor,
    labels: Tensor,
    t: int,
    schedule: NoiseSchedule,
    generator: torch.Generator,
) -> Tensor:
    """One ``x_t`` for each row of ``labels (n, classes)``, one-hot: ``(n, channels, L)``.

    Args:
        x: training segments ``(m, channels, L)``, aligned at a beat, in model units.
        y: their classes ``(m, classes)``. A class of fewer than two segments starts from all.
        t: 0-based diffusion step to noise the starts to.
    """
    starts = torch.empty(len(labels), *x.shape[1:])
    for c in range(labels.shape[1]):
        rows = labels[:, c] > 0
        of_class = x[y[:, c] > 0]
        starts[rows] = gaussian_like(
            of_class if len(of_class) > 1 else x, int(rows.sum()), generator
        )
    noise = torch.randn(starts.shape, generator=generator)
    alpha_bar = schedule.alpha_bar[t]
    return torch.sqrt(alpha_bar) * starts + torch.sqrt(1 - alpha_bar) * noise


def gaussian_like(x: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """``n`` draws from the Gaussian with the mean and covariance of ``x (m, ...)``.

    ``mean + z (x - mean) / sqrt(m - 1)``, ``z ~ N(0, 1)`` of shape ``(n, m)``, has exactly that
    covariance, which is never formed.
    """
    mean = x.mean(0)
    mix = torch.randn(n, len(x), generator=generator) / max(1, len(x) - 1) ** 0.5
    return mean + torch.tensordot(mix, x - mean, dims=1)

"""What a sampler makes of Gaussian data, where the best denoiser is known, by arithmetic alone."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ecgcore.diffusion import NoiseSchedule
from ecgcore.diffusion.loss import Denoiser
from ecgcore.diffusion.solvers import Table

STDS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
MEAN = 0.5


def eps(x: Tensor, alpha: Tensor, sigma: Tensor, mean: float, std: Tensor) -> Tensor:
    """``E[z | x_t]`` for ``x_t = alpha x_0 + sigma z``, ``x_0 ~ N(mean, std^2)``."""
    return sigma * (x - alpha * mean) / ((alpha * std) ** 2 + sigma**2)


def outcome(table: Table, std: float, *, matched: bool, mean: float = MEAN) -> tuple[float, float]:
    """Bias of the mean, and standard deviation over the true one, of what ``table`` generates.

    All is linear, so that ``(x, data)`` stays Gaussian: its mean and covariance are carried along
    in float64, from N(0, 1) or from the moments of noised data.
    """
    alpha, sigma = table.alpha.numpy(), table.sigma.numpy()
    at = np.zeros(2)
    spread = np.diag([1.0, 0.0])
    if matched:
        at[0] = alpha[0] * mean
        spread[0, 0] = (alpha[0] * std) ** 2 + sigma[0] ** 2
    for k in range(len(table.times)):
        gain = sigma[k] / ((alpha[k] * std) ** 2 + sigma[k] ** 2)  # eps = gain (x - alpha mean)
        shift = gain * alpha[k] * mean
        a, b, c, d = (float(v[k]) for v in (table.x, table.eps, table.data, table.noise))
        matrix = np.array([[a + b * gain, c], [(1 - sigma[k] * gain) / alpha[k], 0]])
        at = matrix @ at + np.array([-b * shift, sigma[k] * shift / alpha[k]])
        spread = matrix @ spread @ matrix.T
        spread[0, 0] += d**2
    return at[0] - mean, spread[0, 0] ** 0.5 / std


def denoiser(schedule: NoiseSchedule, std: Tensor) -> Denoiser:
    """The best denoiser of data whose channels are ``N(MEAN, std^2)``, ``std (channels, 1)``."""

    def model(x: Tensor, label: Tensor | None, steps: Tensor) -> Tensor:
        alpha_bar = schedule.alpha_bar.to(x.dtype)[steps.long()].unsqueeze(-1)
        return eps(x, alpha_bar.sqrt(), (1 - alpha_bar).sqrt(), MEAN, std)

    return model

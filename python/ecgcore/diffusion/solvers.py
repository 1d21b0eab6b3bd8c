"""Samplers as tables: which diffusion steps are asked for, and what is done with each answer.

With ``alpha_t = sqrt(alpha_bar_t)``, ``sigma_t = sqrt(1 - alpha_bar_t)`` a noisy signal is
``x_t = alpha_t x_0 + sigma_t z``. A denoiser's ``eps`` predicts ``z``, and thereby the data,

    data = (x - sigma_t eps) / alpha_t.

Every sampler here then goes on to the next step by a linear update,

    x_next = a x + b eps + c (data of the evaluation before) + d noise,

so it *is* the coefficients ``a, b, c, d`` of each evaluation. They are computed once, in float64
from the schedule's float32 numbers. ``process.py`` runs a table.

Which steps a sampler of few evaluations takes: whole ones, evenly spaced in ``lambda =
log(alpha / sigma)``, half the log signal-to-noise ratio (:func:`times`). docs/samplers.md compares
this with other spacings on Gaussian data, where the outcome can be computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ecgcore.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True, eq=False)
class Table:
    """A sampler with K evaluations. Tensors are float64 ``(K,)`` on the CPU, in order of use."""

    times: tuple[int, ...]
    """0-based diffusion step of each evaluation, falling"""
    alpha: Tensor
    """part of the signal in ``x`` at each evaluation"""
    sigma: Tensor
    """standard deviation of the noise in it"""
    x: Tensor
    """``a``: what the next ``x`` takes of this one"""
    eps: Tensor
    """``b``: of the predicted noise"""
    data: Tensor
    """``c``: of the data predicted one evaluation earlier"""
    noise: Tensor
    """``d``: of fresh noise"""
    first_draw: int = 1
    """number of the draw that the first evaluation takes, and the others by one more each: draw 0
    is ``x_T``. More than 1 where noisier steps were skipped whose draws keep their numbers."""

    @property
    def multistep(self) -> bool:
        """Whether data of the evaluation before are needed."""
        return bool(self.data.any())

    @property
    def stochastic(self) -> bool:
        """Whether noise is drawn after ``x_T``: one array for each evaluation but the last."""
        return bool(self.noise.any())

    @property
    def draws(self) -> int:
        """Number of arrays drawn in all, ``x_T`` among them."""
        return self.first_draw + (len(self.times) - 1 if self.stochastic else 0)


def ddpm(schedule: NoiseSchedule, first: int | None = None) -> Table:
    """Ancestral sampling: Ho, Jain, Abbeel (2020), algorithm 2, with the posterior's variance.

    ``x_next = (x - (1 - alpha_t) / sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_t) + sigma_t noise``,
    here with the schedule's own ``alpha`` and ``sigma``. Step 0 adds no noise.

    Args:
        first: noisiest step, by default the schedule's last.
    """
    times = _every(schedule, first)
    t = list(times)
    alpha, sigma = _levels(schedule)
    step = schedule.alpha.double()[t]
    noise = schedule.sigma.double()[t]
    noise[-1] = 0
    return Table(
        times,
        alpha[t],
        sigma[t],
        x=1 / step.sqrt(),
        eps=-(1 - step) / (sigma[t] * step.sqrt()),
        data=torch.zeros_like(step),
        noise=noise,
        first_draw=schedule.T - times[0],
    )


def ddim(
    schedule: NoiseSchedule, steps: int | None = None, eta: float = 0.0, first: int | None = None
) -> Table:
    """Song, Meng, Ermon, "Denoising Diffusion Implicit Models" (2021), equations 12 and 16.

    With the next level's ``alpha', sigma'`` (1 and 0 after the last evaluation),

        x_next = alpha' data + sqrt(sigma'^2 - d^2) eps + d noise,
        d = eta (sigma' / sigma) sqrt(1 - alpha^2 / alpha'^2).

    ``eta = 0`` draws nothing but ``x_T``; ``eta = 1`` over all steps is ``ddpm``.

    Args:
        steps: number of evaluations, by default all.
        eta: in [0, 1].
        first: noisiest step, by default the schedule's last.

    Raises:
        ValueError: ``eta``, or what ``times`` refuses.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"ddim: eta must be in [0, 1], got {eta}")
    t = list(times(schedule, steps, first))
    alpha, sigma, next_alpha, next_sigma = _levels_and_next(schedule, t)
    noise = eta * next_sigma / sigma * (1 - (alpha / next_alpha) ** 2).sqrt()
    toward_data = next_alpha / alpha
    return Table(
        tuple(t),
        alpha,
        sigma,
        x=toward_data,
        eps=(next_sigma**2 - noise**2).sqrt() - toward_data * sigma,
        data=torch.zeros_like(noise),
        noise=noise,
    )


def dpmpp(schedule: NoiseSchedule, steps: int | None = None, first: int | None = None) -> Table:
    """DPM-Solver++(2M): Lu et al. (2022), "DPM-Solver++", algorithm 2, on data predictions.

    With ``h = lambda' - lambda`` to the next level and ``r = h_before / h``,

        x_next = (sigma' / sigma) x + alpha' (1 - exp(-h)) D,
        D = (1 + 1 / (2 r)) data - 1 / (2 r) (data before).

    The first evaluation has none before it, ``D = data``; the last one ends at its prediction,
    ``x_next = data``, to which the formula tends as ``sigma'`` goes to 0 with ``D = data``.

    Args:
        steps: number of evaluations, by default all.
        first: noisiest step, by default the schedule's last.
    """
    t = list(times(schedule, steps, first))
    alpha, sigma, next_alpha, next_sigma = _levels_and_next(schedule, t)
    h = torch.diff(torch.log(alpha / sigma))
    before = torch.zeros_like(alpha)  # 1 / (2 r)
    before[1:-1] = h[1:] / (2 * h[:-1])
    keep = next_sigma / sigma
    weight = next_alpha - alpha * keep  # alpha' (1 - exp(-h)), exp(-h) = (alpha / alpha') keep
    toward_data = weight * (1 + before) / alpha
    return Table(
        tuple(t),
        alpha,
        sigma,
        x=keep + toward_data,
        eps=-toward_data * sigma,
        data=-weight * before,
        noise=torch.zeros_like(alpha),
    )


def times(
    schedule: NoiseSchedule, steps: int | None = None, first: int | None = None
) -> tuple[int, ...]:
    """``steps`` different diffusion steps from ``first`` down to 0, evenly spaced in ``lambda``.

    Each is the whole step next to its place, since networks are trained on whole steps and the
    schedule's numbers are given there. Where places lie closer than steps do, as near the data,
    consecutive steps are taken.

    Raises:
        ValueError: ``steps`` is not a whole number from 1 to ``first + 1``.
    """
    every = _every(schedule, first)
    if steps is None:
        return every
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= len(every):
        raise ValueError(
            f"times: steps must be a whole number from 1 to {len(every)}, got {steps!r}"
        )
    alpha, sigma = _levels(schedule)
    level = torch.log(alpha / sigma)[: len(every)].numpy()
    places = np.linspace(level[-1], level[0], steps)
    chosen = np.abs(level[:, None] - places).argmin(0).tolist()
    for k in range(1, steps):
        chosen[k] = min(chosen[k], chosen[k - 1] - 1)
    return tuple(max(t, steps - 1 - k) for k, t in enumerate(chosen))


def _every(schedule: NoiseSchedule, first: int | None) -> tuple[int, ...]:
    return tuple(reversed(range(schedule.T if first is None else first + 1)))


def _levels(schedule: NoiseSchedule) -> tuple[Tensor, Tensor]:
    """``alpha_t`` and ``sigma_t`` of all steps."""
    alpha_bar = schedule.alpha_bar.double()
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


def _levels_and_next(
    schedule: NoiseSchedule, t: list[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``alpha, sigma`` at the steps ``t``, and at those after each; clean data follow the last."""
    alpha, sigma = (level[t] for level in _levels(schedule))
    one = torch.ones(1, dtype=torch.float64)
    return alpha, sigma, torch.cat([alpha[1:], one]), torch.cat([sigma[1:], 0 * one])

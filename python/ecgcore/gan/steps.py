"""Training a GAN with a Wasserstein critic: one step of either network, as plain functions.

Arjovsky, Chintala, Bottou, "Wasserstein generative adversarial networks" (2017); Gulrajani et al.,
"Improved training of Wasserstein GANs" (2017), algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ecgcore.gan.loss import gradient_penalty
from ecgcore.models.critic import Critic
from ecgcore.models.gan import Generator
from ecgcore.train.distributed import World
from ecgcore.train.keeper import TrainingDiverged


class CriticDraws(NamedTuple):
    """All that is random in one step of the critic, on the CPU."""

    noise: Tensor
    """latent, ``(B, ...)``, uniform in [-1, 1]"""
    alpha: Tensor
    """place of the penalty between real and drawn signals, ``(B, 1, 1)``, uniform in [0, 1]"""
    shifts: Tensor
    """of the phase shuffles, ``(3, 5, B)``: for real, drawn and mixed signals"""


class GeneratorDraws(NamedTuple):
    """All that is random in one step of the generator, on the CPU."""

    noise: Tensor
    """latent, ``(B, ...)``, uniform in [-1, 1]"""
    shifts: Tensor
    """of the phase shuffles, ``(5, B)``"""


class Scores(NamedTuple):
    """What a step of the critic saw, averaged over the batch, before its update."""

    real: float
    """score of real signals"""
    fake: float
    """score of drawn ones"""
    penalty: float
    """gradient penalty, its weight included"""
    gradient_norm: float
    """of the critic's gradient, before clipping"""

    @property
    def loss(self) -> float:
        """What the critic minimises."""
        return self.fake - self.real + self.penalty

    @property
    def wasserstein(self) -> float:
        """The critic's estimate of the distance between real and drawn signals."""
        return self.real - self.fake


def latent(shape: Sequence[int], random: torch.Generator | None = None) -> Tensor:
    """Noise uniform in [-1, 1], on the CPU, from ``random`` (default: torch's generator)."""
    return torch.empty(tuple(shape), device="cpu").uniform_(-1, 1, generator=random)


def draw_for_critic(
    critic: Critic, shape: Sequence[int], random: torch.Generator | None = None
) -> CriticDraws:
    """Draws for latents of ``shape (B, ...)``, in the order in which the reference makes them."""
    batch = shape[0]
    noise = latent(shape, random)
    real, fake = (critic.draw_shifts(batch, random) for _ in range(2))
    alpha = torch.rand((batch, 1, 1), generator=random, device="cpu")
    return CriticDraws(noise, alpha, torch.stack([real, fake, critic.draw_shifts(batch, random)]))


def draw_for_generator(
    critic: Critic, shape: Sequence[int], random: torch.Generator | None = None
) -> GeneratorDraws:
    """Draws for latents of ``shape (B, ...)``, in the order in which the reference makes them."""
    noise = latent(shape, random)
    return GeneratorDraws(noise, critic.draw_shifts(shape[0], random))


def generator_turn(step: int, n_critic: int = 5, batches_per_epoch: int | None = None) -> bool:
    """Whether the generator moves after the critic's step ``step`` (from 0): every ``n_critic``-th.

    The reference counts anew in every epoch, so that what is left over of the ``batches_per_epoch``
    after the last whole ``n_critic`` never leads to a step of the generator. Give their number to
    count like that.
    """
    counted = step if batches_per_epoch is None else step % batches_per_epoch
    return (counted + 1) % n_critic == 0


def critic_step(
    generator: Generator,
    critic: Critic,
    optimizer: torch.optim.Optimizer,
    real: Tensor,
    label: Tensor,
    draws: CriticDraws,
    *,
    weight: float = 10.0,
    grad_clip: float | None = None,
    world: World | None = None,
) -> Scores:
    """One update of the critic on ``real (B, channels, L)`` with ``label (B, classes)``.

    The generator draws in the mode it is in: in ``train()``, as the reference has it, its running
    statistics move. The optimiser may hold both networks' parameters: Adam passes over those
    without a gradient.

    Raises:
        TrainingDiverged: loss or gradient is not finite; the weights are then left as they were.
    """
    world = world or World()
    optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        fake = generator(draws.noise.to(real.device), label)
    shifts = draws.shifts.to(real.device)
    # Two passes, not one over both: where a unit is active in every record alike, its bias gets
    # opposite gradients that must cancel to zero exactly, or Adam makes whole steps of rounding.
    on_real, on_fake = critic(real, shifts[0]).mean(), critic(fake, shifts[1]).mean()
    (-on_real).backward()
    on_fake.backward()
    penalty = gradient_penalty(
        critic, real, fake, alpha=draws.alpha, shifts=shifts[2], weight=weight
    )
    penalty.backward()
    parameters = list(critic.parameters())
    norm = _finish_gradient(parameters, grad_clip, world)
    result = Scores(*world.mean(on_real.item(), on_fake.item(), penalty.item(), norm))
    if not (math.isfinite(result.loss) and math.isfinite(norm)):
        raise TrainingDiverged(f"the critic's loss is {result.loss}, its gradient's norm {norm}")
    optimizer.step()
    return result


def generator_step(
    generator: Generator,
    critic: Critic,
    optimizer: torch.optim.Optimizer,
    label: Tensor,
    draws: GeneratorDraws,
    *,
    grad_clip: float | None = None,
    world: World | None = None,
) -> tuple[float, float]:
    """One update of the generator, with ``label (B, classes)``.

    Returns the loss, ``-mean critic(generator(noise, label))``, and the norm of its gradient before
    clipping.

    Raises:
        TrainingDiverged: one of the two is not finite; the weights are then left as they were.
    """
    world = world or World()
    optimizer.zero_grad(set_to_none=True)
    fake = generator(draws.noise.to(label.device), label)
    loss = -critic(fake, draws.shifts.to(label.device)).mean()
    own, _ = generator.networks()
    parameters = list(own.values())
    # Not loss.backward(): the critic's weights need no gradient here.
    gradients = torch.autograd.grad(loss, parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    norm = _finish_gradient(parameters, grad_clip, world)
    (value,) = world.mean(loss.item())
    if not (math.isfinite(value) and math.isfinite(norm)):
        raise TrainingDiverged(f"the generator's loss is {value}, its gradient's norm {norm}")
    optimizer.step()
    return value, norm


def _finish_gradient(
    parameters: list[nn.Parameter], grad_clip: float | None, world: World
) -> float:
    """Average the gradients over the processes and clip them; their norm before clipping."""
    world.average_gradients(parameters)
    norm = nn.utils.clip_grad_norm_(parameters, math.inf if grad_clip is None else grad_clip)
    return norm.item()

"""Drawing samples: the reverse process, as plain functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ecgcore.diffusion.loss import Denoiser
from ecgcore.diffusion.schedule import NoiseSchedule

Callback = Callable[[int, int, Tensor, Tensor], None]
"""``callback(i, t, x, eps)``: evaluation ``i``, at step ``t``, took ``x`` and gave ``eps``."""

Noise = Callable[[int], Tensor]
"""``noise(k) -> (B, channels, L)``: draw ``k``, where draw 0 is ``x_T``."""

SAMPLERS = ("ddpm",)


@torch.no_grad()
def sample(
    model: Denoiser,
    shape: tuple[int, int, int],
    labels: Tensor | None,
    schedule: NoiseSchedule,
    *,
    sampler: str = "ddpm",
    steps: int | None = None,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    noise: Tensor | Noise | None = None,
    start: tuple[int, Tensor] | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Draw signals by running the diffusion backward.

    Call it with the model in ``eval()``, where S4 layers remember their kernels.

    Args:
        model: predicts the noise, ``model(x, labels, steps)``.
        shape: ``(B, channels, L)`` in the model's channels.
        labels: class weights ``(B, classes)``, floating; ``None`` for a model without classes.
        sampler: ``"ddpm"``, ancestral sampling (Ho et al., 2020, algorithm 2).
        steps: number of model evaluations; ``None`` and ``T`` are what ``"ddpm"`` takes.
        eta: 0; it belongs to samplers that this version does not have.
        generator: source of all noise, on the CPU; torch's default one if there is none. ``x_T`` is
            drawn first, then one array for each step but the last: the reference's order, so that
            its seeded samples come out again.
        noise: the draws themselves, ``(T, B, channels, L)``, row 0 is ``x_T``; or a function that
            makes them one by one, ``noise(k) -> (B, channels, L)``, called once per ``k`` in order.
        start: ``(t, x_t)``: begin at step ``t``, 0-based, with ``x_t (B, channels, L)`` in place of
            noise at the last step, as SDEdit does (Meng et al., 2022). Draws keep their numbers:
            what comes before step ``t`` is drawn and not used.
        callback: sees every step before the update.

    Returns:
        ``(B, channels, L)`` on the model's device, float32 (float64 for a float64 model).

    Raises:
        ValueError: for unknown samplers, numbers of steps the sampler cannot take, shapes that do
            not fit.
    """
    if sampler not in SAMPLERS:
        raise ValueError(
            f"diffusion.sample: sampler must be one of {', '.join(SAMPLERS)} in this version, "
            f"got {sampler!r}"
        )
    if steps not in (None, schedule.T) or isinstance(steps, bool):
        raise ValueError(
            f"diffusion.sample: ddpm takes all T = {schedule.T} steps, got steps={steps!r}"
        )
    if eta != 0.0:
        raise ValueError(f"diffusion.sample: ddpm has no eta, got {eta}")
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(
            f"diffusion.sample: shape must be (B, channels, L), each at least 1, got {shape}"
        )
    if labels is not None and (labels.dim() != 2 or labels.shape[0] != shape[0]):
        raise ValueError(
            f"diffusion.sample: labels must have shape ({shape[0]}, classes), "
            f"got {tuple(labels.shape)}"
        )
    device, dtype = _home(model, labels)
    if labels is not None:
        labels = labels.to(device, dtype)
    draws = _draws(shape, schedule.T, generator, noise)

    x = next(draws).to(device, dtype)
    first = schedule.T - 1
    if start is not None:
        first, given = start
        if not 0 <= first < schedule.T or given.shape != x.shape:
            raise ValueError(
                f"diffusion.sample: start must be a step in 0 .. {schedule.T - 1} and a tensor of "
                f"shape {tuple(x.shape)}, got {first} and {tuple(given.shape)}"
            )
        x = given.to(device, dtype)
        for _ in range(schedule.T - 1 - first):
            next(draws)
    weight = (1 - schedule.alpha) / torch.sqrt(1 - schedule.alpha_bar)
    shrink = torch.sqrt(schedule.alpha)
    for i, t in enumerate(reversed(range(first + 1))):
        eps = model(x, labels, torch.full((shape[0], 1), float(t), device=device, dtype=dtype))
        if callback is not None:
            callback(i, t, x, eps)
        x = (x - weight[t] * eps) / shrink[t]
        if t > 0:
            x = x + schedule.sigma[t] * next(draws).to(device, dtype)
    return x


def _draws(
    shape: tuple[int, int, int],
    T: int,
    generator: torch.Generator | None,
    noise: Tensor | Noise | None,
) -> Iterator[Tensor]:
    if callable(noise):
        return (_checked(noise(k), k, shape) for k in range(T))
    if noise is not None:
        if tuple(noise.shape) != (T, *shape):
            raise ValueError(
                f"diffusion.sample: noise must have shape {(T, *shape)}, got {tuple(noise.shape)}"
            )
        return iter(noise)
    device = torch.device("cpu") if generator is None else generator.device
    if device.type != "cpu":
        raise ValueError(f"diffusion.sample: generator must be on the CPU, got {device}")
    return (torch.randn(shape, generator=generator) for _ in range(T))


def _checked(draw: Tensor, k: int, shape: tuple[int, int, int]) -> Tensor:
    if tuple(draw.shape) != shape:
        raise ValueError(
            f"diffusion.sample: noise({k}) must have shape {shape}, got {tuple(draw.shape)}"
        )
    return draw


def _home(model: Denoiser, labels: Tensor | None) -> tuple[torch.device, torch.dtype]:
    """Device and dtype of the model: its first parameter's, else the labels' device and float32."""
    if isinstance(model, nn.Module):
        for parameter in model.parameters():
            wide = parameter.dtype == torch.float64
            return parameter.device, torch.float64 if wide else torch.float32
    device = torch.device("cpu") if labels is None else labels.device
    return device, torch.float32

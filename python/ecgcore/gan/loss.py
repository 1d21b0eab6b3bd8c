"""The gradient penalty of WGAN-GP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Scorer = Callable[..., Tensor]
"""``critic(x)`` or ``critic(x, shifts)``: scores ``(B, 1)``."""


def gradient_penalty(
    critic: Scorer,
    real: Tensor,
    fake: Tensor,
    *,
    alpha: Tensor,
    shifts: Tensor | None = None,
    weight: float = 10.0,
) -> Tensor:
    """``weight mean((|d critic / d x| - 1)^2)`` at ``x = alpha real + (1 - alpha) fake``.

    Gulrajani et al., "Improved training of Wasserstein GANs" (2017), equation 3; the norm is taken
    over channels and time. Where a gradient is exactly zero the norm's own derivative is taken as
    zero.

    Args:
        critic: if it has ``layers(shifts)``, as :class:`ecgcore.models.Critic`, it is taken to be
            piecewise linear and differentiated layer by layer, which saves passes.
        real, fake: signals ``(B, channels, L)``; they get no gradient.
        alpha: place between them, ``(B, 1, 1)``.
        shifts: of the critic's phase shuffles, ``(5, B)``; drawn by it if not given.

    Returns:
        A scalar that can be differentiated in the critic's weights.

    Raises:
        ValueError: for shapes that do not fit.
    """
    batch = real.shape[0]
    if real.dim() != 3 or fake.shape != real.shape:
        raise ValueError(
            "gan.gradient_penalty: real and fake must both have shape (B, channels, L), "
            f"got {tuple(real.shape)} and {tuple(fake.shape)}"
        )
    if alpha.shape != (batch, 1, 1):
        raise ValueError(
            f"gan.gradient_penalty: alpha must have shape ({batch}, 1, 1), got {tuple(alpha.shape)}"
        )
    alpha = alpha.to(real.device, real.dtype)
    x = (alpha * real + (1 - alpha) * fake).detach().requires_grad_()
    slope = (
        _slope(critic, x, shifts) if hasattr(critic, "layers") else _any_slope(critic, x, shifts)
    )
    norm = torch.linalg.vector_norm(slope, dim=(1, 2))
    return weight * (norm - 1).square().mean()


def _any_slope(critic: Scorer, x: Tensor, shifts: Tensor | None) -> Tensor:
    """``d sum(critic(x)) / dx``, with its graph."""
    score = critic(x) if shifts is None else critic(x, shifts)
    (slope,) = torch.autograd.grad(score.sum(), x, create_graph=True)
    return slope


def _slope(critic: Any, x: Tensor, shifts: Tensor | None) -> Tensor:
    """The same for a piecewise linear critic: its chain rule, layer by layer.

    The slope of such a critic, ``W1' M1 W2' M2 ... w``, depends on its weights and, by the masks
    ``M`` of its ReLUs, on which side of zero the activations lie, but not on their values. Autograd
    does not know that: differentiating the slope, it sends zeros back from every activation through
    all layers before it, two of the twelve passes through the critic in a training step. Here every
    layer begins a graph of its own, so nothing leads back.
    """
    passed = []
    for layer in critic.layers(shifts):
        x = x.detach().requires_grad_()
        y = layer(x)
        passed.append((x, y))
        x = y
    slope = torch.ones_like(x)
    for x, y in reversed(passed):
        (slope,) = torch.autograd.grad(y, x, slope, create_graph=True)
    return slope

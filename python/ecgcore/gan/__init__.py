"""Generative adversarial networks with a penalised Wasserstein critic, as plain functions."""

from __future__ import annotations

from ecgcore.gan.loss import gradient_penalty
from ecgcore.gan.steps import (
    CriticDraws,
    GeneratorDraws,
    Scores,
    critic_step,
    draw_for_critic,
    draw_for_generator,
    generator_step,
    generator_turn,
    latent,
)

__all__ = [
    "CriticDraws",
    "GeneratorDraws",
    "Scores",
    "critic_step",
    "draw_for_critic",
    "draw_for_generator",
    "generator_step",
    "generator_turn",
    "gradient_penalty",
    "latent",
]

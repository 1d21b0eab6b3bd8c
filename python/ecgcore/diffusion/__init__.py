"""Diffusion: the noise schedule, the training loss, and samplers, as plain functions."""

from __future__ import annotations

from ecgcore.diffusion.loss import loss
from ecgcore.diffusion.noise import RecordNoise
from ecgcore.diffusion.samplers import sample
from ecgcore.diffusion.schedule import NoiseSchedule
from ecgcore.diffusion.starts import ClassMoments, Moments, class_moments

__all__ = [
    "ClassMoments",
    "Moments",
    "NoiseSchedule",
    "RecordNoise",
    "class_moments",
    "loss",
    "sample",
]

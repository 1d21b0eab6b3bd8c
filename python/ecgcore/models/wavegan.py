"""Conditional WaveGAN*: noise to ECG by upsampling convolutions.

WaveGAN* of Thambawita et al. (2021), after Donahue et al. (2019), with conditional batch
normalisation by Lopez Alcaraz and Strodthoff (2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ecgcore.models.gan import Generator, nearest_multiples
from ecgcore.models.gan_config import WaveGANConfig
from ecgcore.nn.conv import UpsampleConv1d
from ecgcore.nn.norm import ConditionalBatchNorm1d

SAMPLES_PER_ROW = 125


class CondWaveGANGenerator(Generator):
    """ECGs of a class from noise.

    The arguments are the fields of :class:`~.gan_config.WaveGANConfig`, all by keyword. Draws at
    construction in the reference's order, so that a seed gives its initial weights.

    Raises:
        ConfigError: for values of a wrong type, NaN, or out of range.
    """

    Settings = WaveGANConfig

    def __init__(self, **settings: Any) -> None:
        c = WaveGANConfig.from_dict(settings)
        super().__init__(c, c.num_channels, c.label_embed_classes)
        m = c.model_size
        self.width, self.latent_dim = 5 * m, c.latent_dim
        self.fc1 = nn.Linear(c.latent_dim, 5 * m)
        stages = (
            (2, 5, 5 * m, 3 * m),
            (3, 1, 3 * m, m),
            (5, 5, m, m // 2),
            (6, 1, m // 2, m // 5),
            (7, 5, m // 5, c.num_channels),
        )
        self.stages = tuple(number for number, *_ in stages)
        for number, scale, inputs, outputs in stages:
            self.add_module(f"deconv_{number}", UpsampleConv1d(inputs, outputs, scale=scale))
        self.leave_out("bn_deconv1", ConditionalBatchNorm1d(5 * m, c.label_embed_classes))
        for number, _, _, outputs in stages:
            norm = ConditionalBatchNorm1d(
                outputs, c.label_embed_classes, activation="tanh" if number == 7 else "relu"
            )
            self.add_module(f"bn_deconv{number}", norm)
        self._finish(c.post_proc_filt_len)

    def latent_shape(self, length: int) -> tuple[int, int]:
        """``(length / 125, latent_dim)``: see :class:`~.gan.Generator`."""
        if length < 1 or length % SAMPLES_PER_ROW:
            raise ValueError(
                f"CondWaveGANGenerator: length must be a multiple of {SAMPLES_PER_ROW}, got "
                f"{length}; the next ones are {nearest_multiples(length, SAMPLES_PER_ROW)}"
            )
        return length // SAMPLES_PER_ROW, self.latent_dim

    def signal_length(self, latent: Sequence[int]) -> int:
        """125 samples per row: see :class:`~.gan.Generator`."""
        if len(latent) != 2 or latent[0] < 1 or latent[1] != self.latent_dim:
            raise ValueError(
                f"CondWaveGANGenerator: noise must have shape (B, rows, {self.latent_dim}), "
                f"got ({', '.join(map(str, ('B', *latent)))})"
            )
        return SAMPLES_PER_ROW * latent[0]

    def forward(self, noise: Tensor, label: Tensor) -> Tensor:
        """Signals ``(B, num_channels, 125 rows)`` in [-1, 1].

        Args:
            noise: ``(B, rows, latent_dim)``; the reference has 8 rows, whatever the channels.
            label: class weights, ``(B, classes)``: one-hot, multi-hot or soft.

        Raises:
            ValueError: for shapes that do not fit.
        """
        self.signal_length(noise.shape[1:])
        batch, rows, _ = noise.shape
        dtype = self.fc1.weight.dtype
        label = self._checked_label(label, batch, dtype)
        # The reference reads the same memory as (width, rows); it does not transpose.
        h = torch.relu(self.fc1(noise.to(dtype))).reshape(batch, self.width, rows)
        for number in self.stages:
            h = self.get_submodule(f"deconv_{number}")(h)
            h = self.get_submodule(f"bn_deconv{number}")(h, label)
        return h.contiguous()

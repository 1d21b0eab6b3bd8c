"""Pulse2Pulse: noise to ECG by a U-Net.

Thambawita et al., "DeepFake electrocardiograms using generative adversarial networks are the
beginning of the end for privacy issues in medicine" (2021); the conditional one by Lopez Alcaraz
and Strodthoff (2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgcore.models.gan import Generator, nearest_multiples
from ecgcore.models.gan_config import CondP2PConfig, GeneratorConfig, P2PConfig
from ecgcore.nn import time_major
from ecgcore.nn.conv import Conv1d, UpsampleConv1d
from ecgcore.nn.norm import ConditionalBatchNorm1d

KERNEL, PADDING = 25, 12
SLOPE = 0.01
"""Of the encoder's leaky ReLUs."""


class _UNet(Generator):
    """Encoder ``conv_1`` .. and decoder ``deconv_..``; ``deep`` adds a stage at the bottom.

    The decoder's stages 2, 3, 5 and 6 also see what the encoder's 5, 4, 3 and 2 gave. Without the
    deep stage the first of them sees the bottom twice.
    """

    skips: ClassVar[dict[int, int]] = {2: 5, 3: 4, 5: 3, 6: 2}

    def __init__(
        self, settings: GeneratorConfig, channels: int, classes: int, *, deep: bool
    ) -> None:
        super().__init__(settings, channels, classes)
        m, c = settings.model_size, channels
        widths = [c, m // 5, m // 2, m, 3 * m, 5 * m] + [5 * m] * deep
        self.strides = (2, 5, 2, 5, 5) + (5,) * deep
        decoder = (
            *([(1, 5, 5 * m, 5 * m)] if deep else []),
            (2, 5, 10 * m, 3 * m),
            (3, 5, 6 * m, m),
            (5, 2, 2 * m, m // 2),
            (6, 5, 2 * (m // 2), m // 5),
            (7, 2, m // 5, c),
        )
        self.decoder = tuple(number for number, *_ in decoder)
        for number, scale, inputs, outputs in decoder:
            self.add_module(f"deconv_{number}", UpsampleConv1d(inputs, outputs, scale=scale))
        for i, stride in enumerate(self.strides):
            conv = Conv1d(widths[i], widths[i + 1], KERNEL, stride, PADDING)
            self.add_module(f"conv_{i + 1}", conv)
        if classes:
            for i, width in enumerate(widths[1:]):
                norm = ConditionalBatchNorm1d(width, classes, activation="leaky_relu")
                self.add_module(f"bn_conv{i + 1}", norm)
            for number, _, _, width in decoder:
                activation = "tanh" if number == 7 else "relu"
                norm = ConditionalBatchNorm1d(width, classes, activation=activation)
                self.add_module(f"bn_deconv{number}", norm)
        self._finish(settings.post_proc_filt_len)

    @property
    def samples(self) -> int:
        """A signal's length is a multiple of this."""
        return 2500 if len(self.strides) == 6 else 500

    def latent_shape(self, length: int) -> tuple[int, int]:
        """``(channels, length)``: see :class:`~.gan.Generator`."""
        if length < 1 or length % self.samples:
            raise ValueError(
                f"{type(self).__name__}: length must be a multiple of {self.samples}, got "
                f"{length}; the next ones are {nearest_multiples(length, self.samples)}"
            )
        return self.out_channels, length

    def signal_length(self, latent: Sequence[int]) -> int:
        """The latent's own, rounded up by up to nine samples: see :class:`~.gan.Generator`."""
        # Lengths are halved (rounded up) on the way down and doubled on the way up. They meet where
        # the one after the first two steps, ceil(L / 10), holds whole numbers of the others.
        tenth = -(-latent[-1] // 10) if len(latent) == 2 else 0
        if tenth < 1 or latent[0] != self.out_channels or tenth % (self.samples // 10):
            raise ValueError(
                f"{type(self).__name__}: noise must have shape (B, {self.out_channels}, L) with L "
                f"a multiple of {self.samples}, or up to 9 less, "
                f"got ({', '.join(map(str, ('B', *latent)))})"
            )
        return 10 * tenth

    def _run(self, noise: Tensor, label: Tensor | None) -> Tensor:
        self.signal_length(noise.shape[1:])
        encoded = {0: noise.to(self.get_parameter("conv_1.weight").dtype)}
        for i in range(1, len(self.strides) + 1):
            h = self.get_submodule(f"conv_{i}")(encoded[i - 1])
            encoded[i] = self._activate(f"bn_conv{i}", h, label)
        h = encoded[len(self.strides)]
        for number in self.decoder:
            if number in self.skips:
                h = time_major.cat([h, encoded[self.skips[number]]])
            h = self.get_submodule(f"deconv_{number}")(h)
            h = self._activate(f"bn_deconv{number}", h, label)
        return h.contiguous()

    def _activate(self, norm: str, h: Tensor, label: Tensor | None) -> Tensor:
        """The normalisation of that name, which activates too; only that without classes."""
        if label is not None:
            y: Tensor = self.get_submodule(norm)(h, label)
            return y
        if norm.startswith("bn_conv"):
            return F.leaky_relu(h, SLOPE)
        return torch.tanh(h) if norm == "bn_deconv7" else torch.relu(h)


class CondP2PGenerator(_UNet):
    """ECGs of a class from noise of the same shape.

    The arguments are the fields of :class:`~.gan_config.CondP2PConfig`, all by keyword. Draws at
    construction in the reference's order, so that a seed gives its initial weights.

    Raises:
        ConfigError: for values of a wrong type, NaN, or out of range.
    """

    Settings = CondP2PConfig

    def __init__(self, **settings: Any) -> None:
        c = CondP2PConfig.from_dict(settings)
        super().__init__(c, c.n_channels, c.label_embed_classes, deep=False)

    def forward(self, noise: Tensor, label: Tensor) -> Tensor:
        """Signals ``(B, n_channels, L)`` in [-1, 1].

        Args:
            noise: ``(B, n_channels, L)``, ``L`` a multiple of 500. Up to nine samples less are
                taken too, and give the whole multiple.
            label: class weights, ``(B, classes)``: one-hot, multi-hot or soft.

        Raises:
            ValueError: for shapes that do not fit.
        """
        dtype = self.get_parameter("conv_1.weight").dtype
        return self._run(noise, self._checked_label(label, noise.shape[0], dtype))


class P2PGenerator(_UNet):
    """ECGs of 5000 samples at 500 Hz from noise: the generator of ``deepfake-ecg``.

    The arguments are the fields of :class:`~.gan_config.P2PConfig`, all by keyword. Its output
    times 6 is millivolt, in the leads I, II, V1..V6.

    Raises:
        ConfigError: for values of a wrong type, NaN, or out of range.
    """

    usual: ClassVar[dict[str, Any]] = {
        "length": 5000,
        "fs": 500.0,
        "scale": 1 / 6,
        "basis": "I-II",
    }

    Settings = P2PConfig

    def __init__(self, **settings: Any) -> None:
        c = P2PConfig.from_dict(settings)
        super().__init__(c, c.num_channels, 0, deep=True)
        self.leave_out("fc1", nn.Linear(c.latent_dim, 10 * c.model_size))

    def forward(self, noise: Tensor) -> Tensor:
        """Signals ``(B, num_channels, L)`` in [-1, 1] of ``noise (B, num_channels, L)``.

        ``L`` is a multiple of 2500, or up to nine samples less.

        Raises:
            ValueError: for shapes that do not fit.
        """
        return self._run(noise, None)

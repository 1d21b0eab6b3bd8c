"""The critic of both conditional GANs: six strided convolutions with phase shuffle.

Donahue, McAuley, Puckette, "Adversarial audio synthesis" (2019), without batch normalisation, as
the gradient penalty wants it (Gulrajani et al., 2017), and blind to the class.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgcore.errors import ConfigError
from ecgcore.models.gan_config import CondP2PCriticConfig, CriticConfig, WaveGANCriticConfig
from ecgcore.nn.phase_shuffle import PhaseShuffle

Layer = Callable[[Tensor], Tensor]

KERNEL, PADDING = 25, 11
STRIDES = (2, 2, 2, 2, 4, 4)
WIDTHS = (1, 2, 5, 10, 20, 25)
"""Output channels of the convolutions, in multiples of ``model_size``."""
SHUFFLES = len(STRIDES) - 1


def output_lengths(length: int) -> list[int]:
    """Lengths after each convolution; not above 0 where the signal is too short."""
    lengths = []
    for stride in STRIDES:
        length = (length + 2 * PADDING - KERNEL) // stride + 1
        lengths.append(length)
    return lengths


def shortest_length() -> int:
    """The fewest samples that leave one after the last convolution."""
    length = 1
    for stride in reversed(STRIDES):
        length = (length - 1) * stride + KERNEL - 2 * PADDING
    return length


class Critic(nn.Module):
    """Scores signals: high for real ones. A fresh critic's last layer is drawn last, where the
    reference draws it at the first forward pass.

    Raises:
        ConfigError: for values of a wrong type, NaN or out of range, and for a ``length`` or
            ``shift_factor`` that does not fit through the layers.
    """

    def __init__(self, settings: CriticConfig, channels: int) -> None:
        super().__init__()
        c = settings
        name = type(self).__name__
        self.config: dict[str, Any] = {"model_name": name, **c.to_sections()}
        self.channels, self.length, self.slope = channels, c.length, c.alpha
        if c.length < shortest_length():
            raise ConfigError(
                f"discriminator.length must be at least {shortest_length()} samples, got {c.length}"
            )
        lengths = output_lengths(c.length)
        if c.shift_factor >= lengths[-2]:
            raise ConfigError(
                f"discriminator.shift_factor must be in 0 .. {lengths[-2] - 1} for signals of "
                f"{c.length} samples, got {c.shift_factor}"
            )
        widths = [channels, *(w * c.model_size for w in WIDTHS)]
        for i, stride in enumerate(STRIDES):
            conv = nn.Conv1d(widths[i], widths[i + 1], KERNEL, stride, PADDING)
            self.add_module(f"conv{i + 1}", conv)
        for i in range(SHUFFLES):
            self.add_module(f"ps{i + 1}", PhaseShuffle(c.shift_factor))
        for conv in self._convs():
            nn.init.kaiming_normal_(conv.weight)
        self.fc1 = nn.Linear(widths[-1] * lengths[-1], 1)

    def draw_shifts(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """Shifts ``(5, batch)`` int64 for one forward pass, in the order in which it draws them."""
        return torch.stack([shuffle.draw(batch, generator) for shuffle in self._shuffles()])

    def forward(self, x: Tensor, shifts: Tensor | None = None) -> Tensor:
        """Scores ``(B, 1)``.

        Args:
            x: signals ``(B, channels, length)``.
            shifts: int64 ``(5, B)``, row ``i`` for the ``i``-th phase shuffle; drawn from torch's
                CPU generator if not given.

        Raises:
            ValueError: for shapes that do not fit.
        """
        name, batch = type(self).__name__, x.shape[0]
        if x.shape[1:] != (self.channels, self.length):
            raise ValueError(
                f"{name}: x must have shape (B, {self.channels}, {self.length}), "
                f"got {tuple(x.shape)}"
            )
        if shifts is not None and shifts.shape != (SHUFFLES, batch):
            raise ValueError(
                f"{name}: shifts must have shape ({SHUFFLES}, {batch}), got {tuple(shifts.shape)}"
            )
        for layer in self.layers(shifts):
            x = layer(x)
        return x

    def layers(self, shifts: Tensor | None = None) -> list[Layer]:
        """The functions whose composition is ``forward``, each piecewise linear in its input."""
        shuffles = self._shuffles()
        layers: list[Layer] = []
        for i, conv in enumerate(self._convs()):
            layers += [conv, partial(F.leaky_relu, negative_slope=self.slope)]
            if i < SHUFFLES:
                layers.append(partial(shuffles[i], shifts=None if shifts is None else shifts[i]))
        return [*layers, partial(torch.flatten, start_dim=1), self.fc1]

    def _convs(self) -> list[nn.Conv1d]:
        return [m for m in self.children() if isinstance(m, nn.Conv1d)]

    def _shuffles(self) -> list[PhaseShuffle]:
        return [m for m in self.children() if isinstance(m, PhaseShuffle)]


class CondWaveGANDiscriminator(Critic):
    """WaveGAN*'s critic: see :class:`Critic`.

    The arguments are the fields of :class:`~.gan_config.WaveGANCriticConfig`, all by keyword.
    """

    def __init__(self, **settings: Any) -> None:
        c = WaveGANCriticConfig.from_dict(settings)
        super().__init__(c, c.num_channels)


class CondP2PDiscriminator(Critic):
    """Pulse2Pulse's critic: see :class:`Critic`.

    The arguments are the fields of :class:`~.gan_config.CondP2PCriticConfig`, all by keyword.
    """

    def __init__(self, **settings: Any) -> None:
        c = CondP2PCriticConfig.from_dict(settings)
        super().__init__(c, c.n_channels)

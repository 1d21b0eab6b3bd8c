"""Weight-normalised convolutions with the keys and the initial draws of the reference."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def weight_normed(conv: nn.Conv1d) -> nn.Conv1d:
    """``conv`` with its weight split into length and direction of each output channel.

    Salimans, Kingma, "Weight Normalization" (2016). Keys are
    ``parametrizations.weight.original0/1``; the older ``weight_g``, ``weight_v`` load too. The
    reference then fills the *computed* weight with Kaiming normal numbers, which changes nothing
    but the state of the generator: they are drawn and dropped here, so that seeds agree.
    """
    nn.utils.parametrizations.weight_norm(conv)
    torch.empty_like(conv.weight).normal_()
    return conv


class Conv(nn.Module):
    """Weight-normalised convolution that keeps the length, ``(B, in, L) -> (B, out, L)``.

    ``kernel_size`` is odd.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, dilation: int = 1
    ) -> None:
        super().__init__()
        padding = dilation * (kernel_size - 1) // 2
        self.conv = weight_normed(
            nn.Conv1d(in_channels, out_channels, kernel_size, dilation=dilation, padding=padding)
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class ZeroConv1d(nn.Module):
    """Convolution of width 1 that starts as zero: a fresh network outputs exactly 0."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size=1)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y

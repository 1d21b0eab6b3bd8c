"""Convolutions with the keys and the initial draws of the reference."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgcore import ops
from ecgcore.nn.unused import LeavesOut
from ecgcore.nn.weight_norm import WeightNormed


class WeightNormConv1d(WeightNormed):
    """Weight-normalised convolution that keeps the length, ``(B, in, L) -> (B, out, L)``.

    The reference fills the *computed* weight with Kaiming normal numbers after splitting it, which
    changes nothing but the state of the generator: they are drawn and dropped here, so that seeds
    agree.

    Args:
        kernel_size: odd.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 1, dilation: int = 1
    ) -> None:
        if kernel_size % 2 == 0:
            raise ValueError(f"WeightNormConv1d: kernel_size must be odd, got {kernel_size}")
        plain = nn.Conv1d(in_channels, out_channels, kernel_size)
        assert plain.bias is not None
        super().__init__(plain.weight, plain.bias)
        self.dilation, self.padding = dilation, dilation * (kernel_size - 1) // 2
        torch.empty_like(plain.weight).normal_()

    def forward(self, x: Tensor) -> Tensor:
        return F.conv1d(x, self.weight, self.bias, padding=self.padding, dilation=self.dilation)


class Conv(nn.Module):
    """:class:`WeightNormConv1d` under the name ``conv``."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, dilation: int = 1
    ) -> None:
        super().__init__()
        self.conv = WeightNormConv1d(in_channels, out_channels, kernel_size, dilation)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class ZeroConv1d(nn.Module):
    """Convolution of width 1 that starts as zero: a fresh network outputs exactly 0."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size=1)
        for parameter in self.conv.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class UpsampleConv1d(LeavesOut):
    """Every sample repeated ``scale`` times, then a convolution that keeps the length.

    ``(B, in, L) -> (B, out, scale L)``, without the repeated samples in memory. The reference
    builds a transposed convolution beside it, ``Conv1dTrans``, which it never uses and which is
    left out here.

    Args:
        kernel_size: odd.
        scale: at least 1.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 25, *, scale: int
    ) -> None:
        super().__init__()
        self.scale = scale
        self.conv1d = nn.Conv1d(in_channels, out_channels, kernel_size)
        self.leave_out("Conv1dTrans", nn.ConvTranspose1d(in_channels, out_channels, kernel_size))

    def forward(self, x: Tensor) -> Tensor:
        return ops.upsample_conv1d(x, self.conv1d.weight, self.conv1d.bias, self.scale)

    def extra_repr(self) -> str:
        return f"scale={self.scale}"

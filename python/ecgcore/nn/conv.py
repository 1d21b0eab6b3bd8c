"""Convolutions with the keys and the initial draws of the reference."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgcore import ops
from ecgcore.nn import time_major
from ecgcore.nn.parameter_cache import ParameterCache
from ecgcore.nn.unused import LeavesOut
from ecgcore.nn.weight_norm import WeightNormed
from ecgcore.ops.upsample_conv1d import phase_weights, reach_of


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


class Conv1d(nn.Conv1d):
    """:class:`torch.nn.Conv1d`, by :mod:`~.time_major` in inference. Its padding is a number."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding)
        self._cache = ParameterCache[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        if not time_major.serves(self, x):
            return super().forward(x)
        weight = self.weight
        filters = self._cache.get((), [weight], lambda: time_major.filters(weight))
        return time_major.conv1d(x, filters, self.bias, self.stride[0], int(self.padding[0]))


class UpsampleConv1d(LeavesOut):
    """Every sample repeated ``scale`` times, then a convolution that keeps the length.

    ``(B, in, L) -> (B, out, scale L)``, without the repeated samples in memory. In ``eval()``
    without gradients it goes by :mod:`~.time_major` and keeps its summed taps until the weight
    changes. The reference builds a transposed convolution beside it, ``Conv1dTrans``, which it
    never uses and which is left out here.

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
        self._cache = ParameterCache[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, scale = self.conv1d.weight, self.conv1d.bias, self.scale
        assert bias is not None
        if not time_major.serves(self, x):
            return ops.upsample_conv1d(x, weight, bias, scale)
        reach = reach_of(weight, scale, x.shape[-1])
        filters = self._cache.get(
            reach, [weight], lambda: time_major.filters(phase_weights(weight, scale, reach))
        )
        phases = time_major.conv1d(x, filters, bias.expand(scale, -1).flatten(), 1, reach)
        return time_major.interleave(phases, scale)

    def extra_repr(self) -> str:
        return f"scale={self.scale}"

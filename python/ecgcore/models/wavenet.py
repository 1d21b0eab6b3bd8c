"""The residual trunk of the diffusion models: step embedding, gated blocks, sum of skip outputs.

DiffWave (Kong et al., 2021) with a layer over the whole time axis before and after the label.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgcore.nn.conv import Conv, WeightNormConv1d
from ecgcore.nn.embedding import diffusion_step_embedding


class GatedBlock(nn.Module):
    """One gated block; a subclass says by what time is mixed.

    Args:
        res_channels: width of the residual stream; the block works at twice that.
        skip_channels: width of the skip output.
        step_dim: width of the embedded diffusion step.
        label_dim: width of the embedded label, ``None`` without labels.
        mixers: name and maker of the two layers over time, which take and give
            ``(L, B, 2 * res_channels)``.
    """

    def __init__(
        self,
        res_channels: int,
        skip_channels: int,
        step_dim: int,
        label_dim: int | None,
        mixers: tuple[tuple[str, Callable[[], nn.Module]], tuple[str, Callable[[], nn.Module]]],
    ) -> None:
        super().__init__()
        (self.first, make_first), (self.second, make_second) = mixers
        self.fc_t = nn.Linear(step_dim, res_channels)
        self.add_module(self.first, make_first())
        self.conv_layer = Conv(res_channels, 2 * res_channels, kernel_size=3)
        self.add_module(self.second, make_second())
        self.res_conv = WeightNormConv1d(res_channels, res_channels)
        self.skip_conv = WeightNormConv1d(res_channels, skip_channels)
        self.fc_label = None if label_dim is None else nn.Linear(label_dim, 2 * res_channels)

    def mix(self, name: str, h: Tensor) -> Tensor:
        """The layer ``name`` over time, on ``(B, 2 * res_channels, L)``."""
        y: Tensor = self.get_submodule(name)(h.permute(2, 0, 1))
        return y.permute(1, 2, 0)

    def forward(self, x: Tensor, label: Tensor | None, step: Tensor) -> tuple[Tensor, Tensor]:
        """``x (B, res_channels, L)``, ``label (B, label_dim)``, ``step (B, step_dim)``.

        Returns:
            The residual stream ``(B, res_channels, L)``, and what the block adds to the output,
            ``(B, skip_channels, L)``.
        """
        h = self.conv_layer(x + self.fc_t(step)[:, :, None])
        h = self.mix(self.first, h)
        if self.fc_label is not None:
            h = h + self.fc_label(label)[:, :, None]
        value, gate = self.mix(self.second, h).chunk(2, dim=1)
        out = torch.tanh(value) * torch.sigmoid(gate)
        return (x + self.res_conv(out)) * math.sqrt(0.5), self.skip_conv(out)


class GatedGroup(nn.Module):
    """The step embedding and the blocks, whose skip outputs are summed.

    Args:
        step_dims: widths of the sinusoidal embedding and of the two layers behind it.
        num_res_layers: number of blocks, at least 1.
        block: makes a block.
    """

    def __init__(
        self, step_dims: tuple[int, int, int], num_res_layers: int, block: Callable[[], GatedBlock]
    ) -> None:
        super().__init__()
        if num_res_layers < 1:
            raise ValueError(f"num_res_layers must be at least 1, got {num_res_layers}")
        self.step_dim = step_dims[0]
        self.fc_t1 = nn.Linear(step_dims[0], step_dims[1])
        self.fc_t2 = nn.Linear(step_dims[1], step_dims[2])
        self.residual_blocks = nn.ModuleList(block() for _ in range(num_res_layers))

    def forward(self, x: Tensor, label: Tensor | None, steps: Tensor) -> Tensor:
        """``x (B, res_channels, L)``, ``steps (B, 1)`` or ``(B,)`` -> ``(B, skip_channels, L)``."""
        step = diffusion_step_embedding(steps, self.step_dim, self.fc_t1.weight.dtype)
        step = F.silu(self.fc_t2(F.silu(self.fc_t1(step))))
        skips = x.new_zeros(())
        for block in self.residual_blocks:
            x, skip = block(x, label, step)
            skips = skips + skip
        return skips * math.sqrt(1.0 / len(self.residual_blocks))

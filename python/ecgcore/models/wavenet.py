"""What the diffusion models share: a residual trunk of gated blocks between two convolutions.

DiffWave (Kong et al., 2021) with a layer over the whole time axis before and after the label.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgcore.models.config import DenoiserConfig
from ecgcore.nn.conv import Conv, WeightNormConv1d, ZeroConv1d
from ecgcore.nn.embedding import diffusion_step_embedding
from ecgcore.nn.parameter_cache import ParameterCache


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
        res_channels, skip_channels: of the blocks.
        num_res_layers: number of blocks, at least 1.
        diffusion_step_embed_dim_in: width of the sinusoidal embedding.
        diffusion_step_embed_dim_mid, diffusion_step_embed_dim_out: widths of the two layers behind
            it.
        **block_args: further arguments of the blocks.
    """

    block: ClassVar[Callable[..., GatedBlock]]

    def __init__(
        self,
        res_channels: int,
        skip_channels: int,
        num_res_layers: int,
        diffusion_step_embed_dim_in: int,
        diffusion_step_embed_dim_mid: int,
        diffusion_step_embed_dim_out: int,
        **block_args: Any,
    ) -> None:
        super().__init__()
        if num_res_layers < 1:
            raise ValueError(f"num_res_layers must be at least 1, got {num_res_layers}")
        self.step_dim = diffusion_step_embed_dim_in
        self.fc_t1 = nn.Linear(diffusion_step_embed_dim_in, diffusion_step_embed_dim_mid)
        self.fc_t2 = nn.Linear(diffusion_step_embed_dim_mid, diffusion_step_embed_dim_out)
        self.residual_blocks = nn.ModuleList(
            type(self).block(
                res_channels, skip_channels, diffusion_step_embed_dim_out, **block_args
            )
            for _ in range(num_res_layers)
        )

    def embed_steps(self, steps: Tensor) -> Tensor:
        """``(B, 1)`` or ``(B,)`` to ``(B, diffusion_step_embed_dim_out)``."""
        step = diffusion_step_embedding(steps, self.step_dim, self.fc_t1.weight.dtype)
        return F.silu(self.fc_t2(F.silu(self.fc_t1(step))))

    def forward(self, x: Tensor, label: Tensor | None, steps: Tensor) -> Tensor:
        """``x (B, res_channels, L)``, ``steps (B, 1)`` or ``(B,)`` -> ``(B, skip_channels, L)``."""
        step = self.embed_steps(steps)
        skips = x.new_zeros(())
        for block in self.residual_blocks:
            x, skip = block(x, label, step)
            skips = skips + skip
        return skips * math.sqrt(1.0 / len(self.residual_blocks))


class Denoiser(nn.Module):
    """Predicts the noise in a noisy signal, given its class and diffusion step.

    The schedule is no part of the model. A fresh network outputs exactly 0. ``config`` holds the
    settings as a plain dict that :func:`ecgcore.models.from_config` takes; ``compiled`` remembers
    what :func:`ecgcore.engine.prepare` made of the weights.

    Args:
        settings: sizes, and the ``model`` section of ``config``.
        group: the class of the residual trunk.
        always_embeds: hold an embedding even for no classes, as a key of the state dict.
        **block_args: for the trunk's blocks.
    """

    def __init__(
        self,
        settings: DenoiserConfig,
        group: type[GatedGroup],
        *,
        always_embeds: bool,
        **block_args: Any,
    ) -> None:
        super().__init__()
        c = settings
        self.config: dict[str, Any] = {"model_name": c.model_name, "model": c.to_dict()}
        self.compiled: ParameterCache[Any] = ParameterCache()
        self.in_channels, self.out_channels = c.in_channels, c.out_channels
        self.num_classes = c.label_embed_classes
        self.init_conv = nn.Sequential(
            Conv(c.in_channels, c.res_channels, kernel_size=1), nn.ReLU()
        )
        self.embedding = (
            nn.Embedding(self.num_classes, c.label_embed_dim)
            if self.num_classes or always_embeds
            else None
        )
        self.residual_layer = group(
            c.res_channels,
            c.skip_channels,
            c.num_res_layers,
            c.diffusion_step_embed_dim_in,
            c.diffusion_step_embed_dim_mid,
            c.diffusion_step_embed_dim_out,
            label_embed_dim=c.label_embed_dim if self.num_classes else None,
            **block_args,
        )
        self.final_conv = nn.Sequential(
            Conv(c.skip_channels, c.skip_channels, kernel_size=1),
            nn.ReLU(),
            ZeroConv1d(c.skip_channels, c.out_channels),
        )

    def train(self, mode: bool = True) -> Denoiser:
        self.compiled.clear()
        return super().train(mode)

    def forward(self, x: Tensor, label: Tensor | None, steps: Tensor) -> Tensor:
        """The noise predicted in ``x``.

        Args:
            x: noisy signal, ``(B, in_channels, L)``; any ``L >= 1``.
            label: class weights, ``(B, classes)``: one-hot, multi-hot or soft; their embeddings
                add up. ``None`` for a model without classes.
            steps: diffusion steps, ``(B, 1)`` or ``(B,)``, integer or floating; 0 is least noise.

        Returns:
            ``(B, out_channels, L)``.

        Raises:
            ValueError: for shapes that do not fit, or a label where there should be none.
        """
        name = type(self).__name__
        if x.dim() != 3 or x.shape[1] != self.in_channels or x.shape[2] < 1:
            raise ValueError(
                f"{name}: x must have shape (B, {self.in_channels}, L) with L >= 1, "
                f"got {tuple(x.shape)}"
            )
        batch = x.shape[0]
        if steps.shape not in ((batch,), (batch, 1)):
            raise ValueError(
                f"{name}: steps must have shape ({batch}, 1) or ({batch},), "
                f"got {tuple(steps.shape)}"
            )
        embedded = self.embed_label(label, batch)
        trunk = self.residual_layer(self.init_conv(x), embedded, steps)
        y: Tensor = self.final_conv(trunk)
        return y

    def embed_label(self, label: Tensor | None, batch: int) -> Tensor | None:
        """``(B, classes)`` to ``(B, label_embed_dim)``; ``None`` for a model without classes.

        Raises:
            ValueError: for another shape than ``batch`` and the model's classes say.
        """
        name = type(self).__name__
        if not self.num_classes:
            if label is not None:
                raise ValueError(f"{name}: label must be None, this model has no classes")
            return None
        assert self.embedding is not None
        if label is None or label.shape != (batch, self.num_classes):
            given = "None" if label is None else tuple(label.shape)
            raise ValueError(
                f"{name}: label must have shape (B, classes) = "
                f"({batch}, {self.num_classes}), got {given}"
            )
        weight = self.embedding.weight
        return torch.matmul(label.to(weight.dtype), weight)

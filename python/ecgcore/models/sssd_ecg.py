"""SSSD-ECG: a diffusion model of ECGs that mixes time with S4.

Lopez Alcaraz, Strodthoff, "Diffusion-based conditional ECG generation with structured state space
models" (Computers in Biology and Medicine, 2023).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ecgcore.models.config import SSSDConfig
from ecgcore.models.wavenet import GatedBlock, GatedGroup
from ecgcore.nn.conv import Conv, ZeroConv1d
from ecgcore.nn.s4model import S4Layer


class ResidualBlock(GatedBlock):
    """A gated block with S4 layers ``S41`` and ``S42``: see :class:`~.wavenet.GatedBlock`.

    Args:
        res_channels: width of the residual stream; the S4 layers work at twice that.
        skip_channels: width of the skip output.
        diffusion_step_embed_dim_out: width of the embedded diffusion step.
        s4_lmax, s4_d_state, s4_dropout, s4_bidirectional, s4_layernorm: of
            :class:`ecgcore.nn.S4Layer`.
        label_embed_dim: width of the embedded label, ``None`` without labels.
        **kernel_args: for :class:`ecgcore.nn.HippoSSKernel`.
    """

    def __init__(
        self,
        res_channels: int,
        skip_channels: int,
        diffusion_step_embed_dim_out: int,
        s4_lmax: int,
        s4_d_state: int,
        s4_dropout: float,
        s4_bidirectional: bool,
        s4_layernorm: bool,
        label_embed_dim: int | None = None,
        **kernel_args: Any,
    ) -> None:
        make = partial(
            S4Layer,
            features=2 * res_channels,
            lmax=s4_lmax,
            N=s4_d_state,
            dropout=s4_dropout,
            bidirectional=s4_bidirectional,
            layer_norm=s4_layernorm,
            **kernel_args,
        )
        super().__init__(
            res_channels,
            skip_channels,
            diffusion_step_embed_dim_out,
            label_embed_dim,
            (("S41", make), ("S42", make)),
        )


class ResidualGroup(GatedGroup):
    """The step embedding and ``num_res_layers`` blocks: see :class:`~.wavenet.GatedGroup`.

    Takes the arguments of :class:`ResidualBlock` beside its own.
    """

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
        super().__init__(
            (
                diffusion_step_embed_dim_in,
                diffusion_step_embed_dim_mid,
                diffusion_step_embed_dim_out,
            ),
            num_res_layers,
            partial(
                ResidualBlock,
                res_channels,
                skip_channels,
                diffusion_step_embed_dim_out,
                **block_args,
            ),
        )


class SSSDECG(nn.Module):
    """Predicts the noise in a noisy signal, given its class and diffusion step.

    The arguments are the fields of :class:`~.config.SSSDConfig`, all by keyword; the schedule is no
    part of the model. A fresh network outputs exactly 0. ``config`` holds the settings as a plain
    dict that :func:`ecgcore.models.from_config` takes.

    Draws at construction in the reference's order, so that a seed gives its initial weights, apart
    from the phases of eigenvectors, on which no kernel depends.

    Raises:
        ConfigError: for values of a wrong type, NaN, or out of range.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        c = SSSDConfig.from_dict(settings)
        self.config: dict[str, Any] = {"model_name": c.model_name, "model": c.to_dict()}
        self.in_channels, self.out_channels = c.in_channels, c.out_channels
        self.num_classes = c.label_embed_classes
        self.init_conv = nn.Sequential(
            Conv(c.in_channels, c.res_channels, kernel_size=1), nn.ReLU()
        )
        self.embedding = (
            nn.Embedding(c.label_embed_classes, c.label_embed_dim) if self.num_classes else None
        )
        self.residual_layer = ResidualGroup(
            c.res_channels,
            c.skip_channels,
            c.num_res_layers,
            c.diffusion_step_embed_dim_in,
            c.diffusion_step_embed_dim_mid,
            c.diffusion_step_embed_dim_out,
            s4_lmax=c.s4_lmax,
            s4_d_state=c.s4_d_state,
            s4_dropout=c.s4_dropout,
            s4_bidirectional=c.s4_bidirectional,
            s4_layernorm=c.s4_layernorm,
            label_embed_dim=c.label_embed_dim if self.num_classes else None,
            exact_nodes=c.exact_nodes,
            odd_length=c.odd_length,
            conjugate_pairs=c.conjugate_pairs,
        )
        self.final_conv = nn.Sequential(
            Conv(c.skip_channels, c.skip_channels, kernel_size=1),
            nn.ReLU(),
            ZeroConv1d(c.skip_channels, c.out_channels),
        )

    def forward(self, x: Tensor, label: Tensor | None, steps: Tensor) -> Tensor:
        """The noise predicted in ``x``.

        Args:
            x: noisy signal, ``(B, in_channels, L)``; any ``L >= 1``. More samples than ``s4_lmax``
                double the S4 kernels for good.
            label: class weights, ``(B, classes)``: one-hot, multi-hot or soft; their embeddings
                add up. ``None`` for a model without classes.
            steps: diffusion steps, ``(B, 1)`` or ``(B,)``, integer or floating; 0 is least noise.

        Returns:
            ``(B, out_channels, L)``.

        Raises:
            ValueError: for shapes that do not fit, or a label where there should be none.
        """
        if x.dim() != 3 or x.shape[1] != self.in_channels or x.shape[2] < 1:
            raise ValueError(
                f"SSSDECG: x must have shape (B, {self.in_channels}, L) with L >= 1, "
                f"got {tuple(x.shape)}"
            )
        batch = x.shape[0]
        if steps.shape not in ((batch,), (batch, 1)):
            raise ValueError(
                f"SSSDECG: steps must have shape ({batch}, 1) or ({batch},), "
                f"got {tuple(steps.shape)}"
            )
        embedded = None if self.embedding is None else self._embed(label, batch)
        if self.embedding is None and label is not None:
            raise ValueError("SSSDECG: label must be None, this model has no classes")
        trunk = self.residual_layer(self.init_conv(x), embedded, steps)
        y: Tensor = self.final_conv(trunk)
        return y

    def _embed(self, label: Tensor | None, batch: int) -> Tensor:
        assert self.embedding is not None
        if label is None or label.shape != (batch, self.num_classes):
            given = "None" if label is None else tuple(label.shape)
            raise ValueError(
                f"SSSDECG: label must have shape (B, classes) = ({batch}, {self.num_classes}), "
                f"got {given}"
            )
        weight = self.embedding.weight
        return torch.matmul(label.to(weight.dtype), weight)

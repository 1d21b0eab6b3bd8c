"""SSSD-ECG: a diffusion model of ECGs that mixes time with S4.

Lopez Alcaraz, Strodthoff, "Diffusion-based conditional ECG generation with structured state space
models" (Computers in Biology and Medicine, 2023).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ecgcore.models.config import SSSDConfig
from ecgcore.models.wavenet import Denoiser, GatedBlock, GatedGroup
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
    """The step embedding and ``num_res_layers`` blocks: see :class:`~.wavenet.GatedGroup`."""

    block = ResidualBlock


class SSSDECG(Denoiser):
    """Predicts the noise in a noisy signal, given its class and diffusion step.

    See :class:`~.wavenet.Denoiser`. More samples than ``s4_lmax`` double the S4 kernels for good.
    The arguments are the fields of :class:`~.config.SSSDConfig`, all by keyword.

    Draws at construction in the reference's order, so that a seed gives its initial weights, apart
    from the phases of eigenvectors, on which no kernel depends.

    Raises:
        ConfigError: for values of a wrong type, NaN, or out of range.
    """

    def __init__(self, **settings: Any) -> None:
        c = SSSDConfig.from_dict(settings)
        super().__init__(
            c,
            ResidualGroup,
            always_embeds=False,
            s4_lmax=c.s4_lmax,
            s4_d_state=c.s4_d_state,
            s4_dropout=c.s4_dropout,
            s4_bidirectional=c.s4_bidirectional,
            s4_layernorm=c.s4_layernorm,
            exact_nodes=c.exact_nodes,
            odd_length=c.odd_length,
            conjugate_pairs=c.conjugate_pairs,
        )

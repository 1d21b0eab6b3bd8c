"""First generation of S4, as SSSD-ECG uses it: ``S4``, ``S4Layer`` and their kernels.

Gu, Goel, Ré, "Efficiently Modeling Long Sequences with Structured State Spaces" (2022);
Lopez Alcaraz, Strodthoff, "Diffusion-based conditional ECG generation with structured state space
models" (2023).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ecgcore.nn.s4 import (
    S4Core,
    TransposedLinear,
    activation_module,
    dropout_module,
    output_map,
    two_sided_spectrum,
)
from ecgcore.nn.ssm_kernel import HippoSSKernel, SSKernelNPLR
from ecgcore.nn.streaming import RecurrentThrough

__all__ = ["S4", "HippoSSKernel", "S4Layer", "SSKernelNPLR", "transformer_encoder"]


class S4(S4Core):
    """Long convolution with a state-space kernel, skip, activation, position-wise output map.

    Args:
        d_model: features ``H``.
        d_state: state size ``N``, even.
        l_max: internal length of the kernel; longer inputs double it for good.
        channels: heads, each with its own kernel over every feature.
        bidirectional: a second kernel runs backward in time.
        activation: after the convolution: gelu, relu, tanh, silu, sigmoid or ``None``.
        postact: activation after the output map; ``"glu"`` doubles the map's width first.
        initializer: of the output map, see :func:`ecgcore.nn.s4.output_map`.
        weight_norm: on the output map.
        hyper_act: activation of a gate: twice the channels, ``hyper_act(gate) * value``.
        dropout: rate, of whole features where ``transposed``.
        transposed: layout ``(B, H, L)``, else ``(B, L, H)``.
        verbose: accepted for the reference's sake, without effect.
        **kernel_args: for :class:`HippoSSKernel`, its switches ``exact_nodes``, ``odd_length`` and
            ``conjugate_pairs`` among them.

    Draws at construction, in this order: ``D``, the kernel, the output map.

    Raises:
        ValueError: for options out of range.
    """

    kernel: HippoSSKernel

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        l_max: int | None = 1,
        channels: int = 1,
        bidirectional: bool = False,
        activation: str | None = "gelu",
        postact: str | None = None,
        initializer: str | None = None,
        weight_norm: bool = False,
        hyper_act: str | None = None,
        dropout: float = 0.0,
        transposed: bool = True,
        verbose: bool = False,
        **kernel_args: Any,
    ) -> None:
        super().__init__()
        if activation == "glu":
            raise ValueError("S4: activation must keep the width; 'glu' belongs in postact")
        activation_module(activation)
        self.h, self.n, self.channels = d_model, d_state, channels
        self.bidirectional, self.transposed = bool(bidirectional), transposed
        self.hyper, self.activation = hyper_act, activation
        if hyper_act is not None:
            activation_module(hyper_act)
            channels *= 2
        self.D = nn.Parameter(torch.randn(channels, d_model))
        self.kernel = HippoSSKernel(
            d_model,
            N=d_state,
            L=l_max,
            channels=2 * channels if bidirectional else channels,
            **kernel_args,
        )
        # Whole features drop together; for three axes torch calls that Dropout1d.
        self.dropout = dropout_module(nn.Dropout1d if transposed else nn.Dropout, dropout)
        self.output_linear = output_map(
            TransposedLinear if transposed else nn.Linear,
            d_model * self.channels,
            d_model,
            initializer=initializer,
            activation=postact,
            weight_norm=weight_norm,
        )

    def make_spectrum(self, L: int, rate: float = 1.0) -> Tensor:
        K = self.kernel(L=L, rate=rate)
        # A kernel that is one sample short (odd_length="reference") is padded to Lk + L samples
        # there, which leaves its backward half one sample further in the past.
        return two_sided_spectrum(
            K, L, bidirectional=self.bidirectional, gap=max(L - K.shape[-1], 0)
        )

    def _cache_key(self) -> tuple[object, ...]:
        kernel = self.kernel.kernel
        return (
            self.kernel.rate,
            kernel.L,
            kernel.exact_nodes,
            kernel.odd_length,
            kernel.conjugate_pairs,
        )

    def forward(self, u: Tensor) -> tuple[Tensor, None]:
        """``(B, H, L) -> (B, H, L)``, or ``(B, L, H)`` for both if not ``transposed``.

        Returns:
            The output, and ``None`` where other layers return a state.
        """
        self.check_input(u, self.h)
        y = self.convolve(u if self.transposed else u.transpose(-1, -2))
        if not self.transposed:
            y = y.transpose(-1, -2)
        return self.output_linear(self.dropout(y)), None

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One sample ``(B, H)``, whatever ``transposed``; without dropout. Needs
        :meth:`setup_step`.

        Returns:
            The output ``(B, H)`` and the next state. A sequence gives what :meth:`forward` gives
            with exact nodes.

        Raises:
            ValueError: if the layer is bidirectional, and for wrong shapes and dtypes.
            RuntimeError: before :meth:`setup_step`, or if a parameter has changed since.
        """
        y, state = self.convolve_step(u, state)
        return self.map_sample(self.output_linear, y), state


class S4Layer(RecurrentThrough):
    """``norm(x + dropout(S4(x)))`` on ``(L, B, F)``.

    Args:
        features: ``F``.
        lmax: internal length of the S4 kernel.
        N: state size.
        dropout: rate at which whole features are dropped.
        bidirectional: the kernel also runs backward in time.
        layer_norm: normalise over the features, with scale and shift; else nothing.
        **kernel_args: for :class:`HippoSSKernel`.
    """

    def __init__(
        self,
        features: int,
        lmax: int,
        N: int = 64,
        dropout: float = 0.0,
        bidirectional: bool = True,
        layer_norm: bool = True,
        **kernel_args: Any,
    ) -> None:
        super().__init__()
        self.s4_layer = S4(
            features, d_state=N, l_max=lmax, bidirectional=bidirectional, **kernel_args
        )
        self.norm_layer = nn.LayerNorm(features) if layer_norm else nn.Identity()
        self.dropout = dropout_module(nn.Dropout1d, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``(L, B, F) -> (L, B, F)``."""
        if x.dim() != 3:
            raise ValueError(f"S4Layer: x must have shape (L, B, F), got {tuple(x.shape)}")
        x = x.permute(1, 2, 0)
        y = self.dropout(self.s4_layer(x)[0]) + x
        z: Tensor = self.norm_layer(y.transpose(1, 2))
        return z.transpose(0, 1)

    def recurrent(self) -> S4:
        return self.s4_layer

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One sample ``(B, F)`` and the next state, without dropout: see :meth:`S4.step`."""
        y, state = self.s4_layer.step(x, state)
        return self.norm_layer(y + x), state

    def forward_state(self, x: Tensor, state: Tensor) -> Tensor:
        """The state after ``x (L, B, F)``: see :meth:`S4Core.forward_state`."""
        return self.s4_layer.forward_state(x.permute(1, 2, 0), state)


def transformer_encoder(
    heads: int = 8, layers: int = 1, channels: int = 64
) -> nn.TransformerEncoder:
    """A plain transformer encoder (feed-forward width 64, GELU), as SSSD's code base offers it."""
    layer = nn.TransformerEncoderLayer(
        d_model=channels, nhead=heads, dim_feedforward=64, activation="gelu"
    )
    return nn.TransformerEncoder(layer, num_layers=layers, enable_nested_tensor=False)

"""The S4 layer of the second generation (ELSM), and its dress for SPADE."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgcore.nn.elsm_kernel import SSKernel
from ecgcore.nn.s4 import (
    PointwiseConv,
    S4Core,
    activation_module,
    dropout_module,
    output_map,
    two_sided_spectrum,
)
from ecgcore.nn.spade_config import spade_config
from ecgcore.nn.ssm_common import check_rate
from ecgcore.nn.streaming import RecurrentThrough


class S4(S4Core):
    """Long convolution with a state-space kernel and skip; the rest is optional.

    By default this is ``y = K * u + D u`` and nothing more: activation, dropout and output map come
    with ``use_pointwise``.

    Args:
        d_model: features of input and output.
        d_state: state size ``N``, even.
        l_max: longest kernel, and its internal length; ``None`` follows the input.
        channels: heads, each with its own kernel over every feature.
        bidirectional: a second kernel runs backward in time.
        activation: after the convolution, with ``use_pointwise``; in the maps of ``bottleneck`` and
            ``gate`` always: gelu, relu, tanh, silu, sigmoid or ``None``.
        postact: activation after the output map; ``"glu"`` doubles the map's width first.
        hyper_act: activation of a gate: twice the channels, ``hyper_act(gate) * value``.
        dropout: rate, before the output map.
        tie_dropout: drop whole features.
        bottleneck: the S4 works on ``d_model // bottleneck`` features, by a map in front.
        gate: a branch of ``gate * d_model`` features multiplies the output before a last map.
        transposed: layout ``(B, H, L)``, else ``(B, L, H)``.
        verbose: accepted for the reference's sake, without effect.
        use_pointwise: activation, dropout and output map after the convolution.
        **kernel_args: for :class:`SSKernel`, ``n_ssm``, ``mode``, ``measure``, ``lr`` and the
            switches ``exact_nodes``, ``odd_length`` and ``conjugate_pairs`` among them.

    Draws at construction, in this order: the maps of ``bottleneck`` and ``gate``, ``D``, the
    kernel, the output map.

    Raises:
        ValueError: for options out of range.
    """

    kernel: SSKernel

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        l_max: int | None = None,
        channels: int = 1,
        bidirectional: bool = False,
        activation: str | None = "gelu",
        postact: str | None = "glu",
        hyper_act: str | None = None,
        dropout: float = 0.0,
        tie_dropout: bool = False,
        bottleneck: int | None = None,
        gate: int | None = None,
        transposed: bool = True,
        verbose: bool = False,
        use_pointwise: bool = False,
        **kernel_args: Any,
    ) -> None:
        super().__init__()
        if activation == "glu":
            raise ValueError("S4: activation must keep the width; 'glu' belongs in postact")
        for name in (activation, hyper_act):
            activation_module(name)
        for option, value in (("bottleneck", bottleneck), ("gate", gate)):
            if value is not None and value < 1:
                raise ValueError(f"S4: {option} must be at least 1 or None, got {value}")
        if d_model % (bottleneck or 1):
            raise ValueError(f"S4: bottleneck must divide d_model = {d_model}, got {bottleneck}")
        self.d_model, self.h, self.n = d_model, d_model // (bottleneck or 1), d_state
        self.l_max, self.channels = l_max or None, channels
        self.bidirectional, self.transposed = bool(bidirectional), transposed
        self.hyper, self.activation = hyper_act, activation if use_pointwise else None
        inner = d_model * (gate or 1)
        if gate is not None and not use_pointwise and self.h * channels != inner:
            raise ValueError(
                f"S4: without use_pointwise a gate of {inner} features needs as many of the "
                f"convolution, got {self.h * channels}"
            )

        linear: type[PointwiseConv] | type[nn.Linear] = PointwiseConv if transposed else nn.Linear
        self.input_linear = self.input_gate = self.output_gate = None
        if bottleneck is not None:
            self.input_linear = output_map(linear, d_model, self.h, activation=activation)
        if gate is not None:
            self.input_gate = output_map(linear, d_model, inner, activation=activation)
            self.output_gate = output_map(linear, inner, d_model)
        heads = channels * (1 if hyper_act is None else 2)
        self.D = nn.Parameter(torch.randn(heads, self.h))
        self.kernel = SSKernel(
            self.h,
            N=d_state,
            L=l_max,
            channels=2 * heads if bidirectional else heads,
            **kernel_args,
        )
        self.dropout = dropout_module(nn.Dropout1d if tie_dropout else nn.Dropout, dropout)
        self.output_linear = None
        if use_pointwise:
            self.output_linear = output_map(linear, self.h * channels, inner, activation=postact)

    def spectrum(self, L: int, rate: float = 1.0) -> Tensor:
        return self._remembered((L, rate), lambda: self.make_spectrum(L, rate))

    def make_spectrum(self, L: int, rate: float = 1.0) -> Tensor:
        K = self.kernel(L=self._kernel_length(L, rate), rate=rate)[0]
        return two_sided_spectrum(K, L, bidirectional=self.bidirectional)

    def _kernel_length(self, L: int, rate: float) -> int:
        return L if self.l_max is None else min(L, max(round(self.l_max / rate), 1))

    def _cache_key(self) -> tuple[object, ...]:
        kernel = self.kernel.kernel
        switches = (getattr(kernel, k, None) for k in ("exact_nodes", "conjugate_pairs"))
        return (self.l_max, kernel.bandlimit, *switches)

    def forward(
        self,
        u: Tensor,
        state: Tensor | None = None,
        rate: float = 1.0,
        lengths: Tensor | int | None = None,
    ) -> Tensor:
        """``(B, H, L) -> (B, H, L)``, or ``(B, L, H)`` for both if not ``transposed``.

        Args:
            u: signals. A kernel that ``l_max`` makes shorter than them is zero beyond.
            state: states before the first sample, ``(B, H, N/2)`` complex; causal layers only. The
                response is as long as the kernel.
            rate: step of the samples in units of the kernel's own.
            lengths: of the signals, one number or ``(B,)``; samples beyond count as zero.

        Returns:
            ``(B, d_model, L)``; ``(B, channels * d_model / bottleneck, L)`` without
            ``use_pointwise`` and ``gate``.

        Raises:
            ValueError: for wrong shapes, a state of a bidirectional layer, a rate that is no
                positive number.
        """
        self.check_input(u, self.d_model)
        check_rate("S4", rate)
        if lengths is not None:
            u = self._masked(u, lengths)
        x = u if self.input_linear is None else self.input_linear(u)
        x = x if self.transposed else x.transpose(-1, -2)
        if state is None:
            y = self.convolve(x, self.spectrum(x.shape[-1], rate))
        else:
            y = self._convolve_from(x, state, rate)
        if self.output_linear is not None:
            y = self.dropout(y)
        y = y if self.transposed else y.transpose(-1, -2)
        if self.output_linear is not None:
            y = self.output_linear(y)
        if self.input_gate is None or self.output_gate is None:
            return y
        gated: Tensor = self.output_gate(y * self.input_gate(u))
        return gated

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One sample ``(B, d_model)``, whatever ``transposed``; without dropout. Needs
        :meth:`setup_step`.

        Returns:
            The output and the next state. A sequence gives what :meth:`forward` gives, as long as
            ``l_max`` does not cut the kernel: the recurrence goes on.

        Raises:
            ValueError: if the layer is bidirectional, and for wrong shapes and dtypes.
            RuntimeError: before :meth:`setup_step`, or if a parameter has changed since.
        """
        x = u if self.input_linear is None else self.map_sample(self.input_linear, u)
        y, state = self.convolve_step(x, state)
        if self.output_linear is not None:
            y = self.map_sample(self.output_linear, y)
        if self.input_gate is None or self.output_gate is None:
            return y, state
        gate = self.map_sample(self.input_gate, u)
        return self.map_sample(self.output_gate, y * gate), state

    def forward_state(self, u: Tensor, state: Tensor) -> Tensor:
        with torch.no_grad():
            x = u if self.input_linear is None else self.input_linear(u)
        return super().forward_state(x, state)

    def _convolve_from(self, x: Tensor, state: Tensor, rate: float) -> Tensor:
        """The convolution, and what is left of the states before the first sample."""
        if self.bidirectional:
            raise ValueError("S4: state is not defined for a bidirectional layer")
        B, L = x.shape[0], x.shape[-1]
        if state.dim() != 3 or state.shape[0] != B:
            raise ValueError(
                f"S4: state must have shape (B, {self.h}, {self.n // 2}) with B = {B}, "
                f"got {tuple(state.shape)}"
            )
        K, K_state = self.kernel(state=state, rate=rate, L=self._kernel_length(L, rate))
        spectrum = two_sided_spectrum(K, L, bidirectional=False)
        return self.convolve(x, spectrum, F.pad(K_state, (0, L - K_state.shape[-1])))

    def _masked(self, u: Tensor, lengths: Tensor | int) -> Tensor:
        L = u.shape[-1 if self.transposed else -2]
        lengths = torch.as_tensor(lengths, device=u.device).reshape(-1)
        if lengths.numel() not in (1, u.shape[0]) or lengths.is_floating_point():
            raise ValueError(
                f"S4: lengths must be one integer or {u.shape[0]}, "
                f"got {lengths.dtype} {tuple(lengths.shape)}"
            )
        within = torch.arange(L, device=u.device) < lengths[:, None]  # (B|1, L)
        return u * within.unsqueeze(1 if self.transposed else 2).to(u.dtype)


class S4Module(RecurrentThrough):
    """:class:`S4` on ``(L, B, F)``, as a SPADE layer holds it: no activation, no output map.

    Args:
        cfg: a mapping with the dotted names of :data:`ecgcore.nn.spade_config.SPADE_DEFAULTS`;
            those that matter here are ``decoder.embed_dim`` (``encoder.embed_dim`` for an encoder),
            ``max_target_positions`` (the longest kernel) and ``s4_*``. ``s4_lr`` may be JSON text.
        is_decoder: causal; an encoder's is bidirectional.
        **kernel_args: further arguments of :class:`SSKernel`.

    Raises:
        ValueError: for an unknown name, or ``s4_channels`` other than 1, which would change the
            width that the residual needs.
    """

    def __init__(
        self, cfg: Mapping[str, Any] | None = None, is_decoder: bool = True, **kernel_args: Any
    ) -> None:
        super().__init__()
        c = spade_config(cfg)
        if c["s4_channels"] != 1:
            raise ValueError(f"S4Module: s4_channels must be 1, got {c['s4_channels']}")
        lr = c["s4_lr"]
        self.s4 = S4(
            c["decoder.embed_dim" if is_decoder else "encoder.embed_dim"],
            d_state=c["s4_state_dim"],
            l_max=c["max_target_positions"],
            bidirectional=not is_decoder,
            dt_min=c["s4_dt_min"],
            dt_max=c["s4_dt_max"],
            lr=json.loads(lr) if isinstance(lr, str) else lr,
            n_ssm=c["s4_n_ssm"],
            **kernel_args,
        )

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """``(L, B, F) -> (L, B, F)``.

        Args:
            x: signals.
            padding_mask: ``(B, L)`` bool, true where there is none: those samples count as zero.
        """
        if x.dim() != 3:
            raise ValueError(f"S4Module: x must have shape (L, B, F), got {tuple(x.shape)}")
        if padding_mask is not None:
            expected = (x.shape[1], x.shape[0])
            if padding_mask.dtype != torch.bool or tuple(padding_mask.shape) != expected:
                raise ValueError(
                    f"S4Module: padding_mask must be bool of shape (B, L) = {expected}, "
                    f"got {padding_mask.dtype} {tuple(padding_mask.shape)}"
                )
            x = x.masked_fill(padding_mask.t()[..., None], 0)
        y: Tensor = self.s4(x.permute(1, 2, 0))
        return y.permute(2, 0, 1)

    def recurrent(self) -> S4:
        return self.s4

    def forward_state(self, x: Tensor, state: Tensor) -> Tensor:
        """The state after ``x (L, B, F)``: see :meth:`S4.forward_state`."""
        return self.s4.forward_state(x.permute(1, 2, 0), state)

"""The layers over time of both models, on rows of features.

A mixer takes ``x (B, L, F)`` and writes ``out``: what its layer makes of ``x``, plus ``shift`` per
record, or with ``gate`` ``tanh`` of one half of that times the sigmoid of the other,
``(B, L, F/2)``. ``out`` may be ``x``. Intermediate rows live in the workspace, where rows that are
done with serve again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ecgcore import ops
from ecgcore.engine.product import Product, frozen, make_product
from ecgcore.engine.workspace import Workspace
from ecgcore.nn import elsm_s4, s4model
from ecgcore.nn.local_attention import LocalAttention
from ecgcore.nn.spade import SpadeDecoderLayer


@dataclass(frozen=True)
class Setting:
    """What a plan is for."""

    length: int
    rate: float
    precision: str
    dtype: torch.dtype


class Mixer(ABC):
    @abstractmethod
    def __call__(
        self,
        x: Tensor,
        out: Tensor,
        work: Workspace,
        *,
        shift: Tensor | None = None,
        gate: bool = False,
    ) -> None: ...


class Convolution:
    """The long convolution of an S4 layer, its skip and activation."""

    def __init__(self, s4: s4model.S4 | elsm_s4.S4, setting: Setting) -> None:
        spectrum = s4.make_spectrum(setting.length, setting.rate)
        spectrum = spectrum.to(setting.dtype.to_complex())
        D = s4.D.detach().to(setting.dtype).reshape(-1, s4.h)  # one channel may be stored as (H,)
        self.table = ops.s4_conv_table(spectrum, D)
        self.gelu = s4.activation == "gelu"

    def __call__(self, u: Tensor, out: Tensor) -> None:
        ops.s4_conv_rows(u, self.table, out, gelu=self.gelu)


class Norm:
    """``LN(y + residual)`` and what may follow it: see :func:`ecgcore.ops.add_layer_norm`."""

    def __init__(self, layer: nn.Module | None) -> None:
        self.weight = self.bias = self.eps = None
        if isinstance(layer, nn.LayerNorm):
            self.weight, self.bias = (
                None if value is None else frozen(value) for value in (layer.weight, layer.bias)
            )
            self.eps = layer.eps

    def __call__(self, y: Tensor, out: Tensor, residual: Tensor | None = None, **then: Any) -> None:
        ops.add_layer_norm(
            y, out, residual=residual, weight=self.weight, bias=self.bias, eps=self.eps, **then
        )


class S4Mixer(Mixer):
    """``norm(x + map(gelu(K * x + D x)))`` of an :class:`ecgcore.nn.S4Layer`."""

    def __init__(self, layer: s4model.S4Layer, setting: Setting) -> None:
        linear: Any = layer.s4_layer.output_linear
        self.convolve = Convolution(layer.s4_layer, setting)
        self.map = make_product(linear.weight, linear.bias[:, 0], setting.precision)
        self.norm = Norm(layer.norm_layer)

    def __call__(
        self,
        x: Tensor,
        out: Tensor,
        work: Workspace,
        *,
        shift: Tensor | None = None,
        gate: bool = False,
    ) -> None:
        heard, mapped = (work.rows(name, x.shape[2]) for name in ("heard", "mapped"))
        self.convolve(x, heard)
        self.map(heard, mapped, work)
        self.norm(mapped, out, x, shift=shift, gate=gate)


class Attention:
    """``W_o local_attention(W_q x, W_k x, W_v x)``, the three maps in front as one product."""

    def __init__(self, layer: LocalAttention, heads_scale: Tensor | None, precision: str) -> None:
        inward = torch.cat([linear.weight for linear in (layer.q, layer.k, layer.v)])
        outward = layer.o.weight
        if heads_scale is not None:  # acts on the features of each head behind the map
            features = outward.shape[0] // layer.num_heads
            outward = outward * heads_scale.repeat_interleave(features)[:, None]
        self.inward = make_product(inward, None, precision)
        self.outward = make_product(outward, None, precision)
        self.heads, self.block_length = layer.num_heads, layer.block_length
        bias = layer.position_bias()
        self.bias = None if bias is None else bias[0, 0].contiguous()

    def __call__(self, x: Tensor, out: Tensor, work: Workspace) -> None:
        F = x.shape[2]
        qkv, attended = work.rows("qkv", 3 * F), work.rows("attended", F)
        self.inward(x, qkv, work)
        q, k, v, heads = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (*qkv.split(F, dim=2), attended)
        )
        stats = work.tensor("stats", (self.heads, x.shape[1], 2))
        ops.local_attention_into(q, k, v, heads, stats, self.block_length, bias=self.bias)
        self.outward(attended, out, work)


def _relu_squared(x: Tensor) -> None:  # behind the product's relu
    x.mul_(x)


def _gelu(x: Tensor) -> None:
    torch.ops.aten.gelu_(x)


def _gelu_by_tanh(x: Tensor) -> None:
    torch.ops.aten.gelu_(x, approximate="tanh")


def _silu(x: Tensor) -> None:
    torch.ops.aten.silu_(x)


def _tanh(x: Tensor) -> None:
    x.tanh_()


_IN_PLACE: dict[str, Callable[[Tensor], None] | None] = {
    "relu": None,
    "relu_squared": _relu_squared,
    "gelu": _gelu,
    "gelu_fast": _gelu_by_tanh,
    "gelu_accurate": _gelu_by_tanh,
    "tanh": _tanh,
    "swish": _silu,
    "linear": None,
}
"""The activations of :data:`ecgcore.nn.spade.ACTIVATIONS`, as far as the product has no part in
them."""


class FeedForward:
    """``W_2 norm(f(W_1 x + b_1)) + b_2`` of a SPADE layer."""

    def __init__(self, layer: SpadeDecoderLayer, precision: str) -> None:
        self.hidden = layer.fc1.out_features
        self.first = make_product(layer.fc1.weight, layer.fc1.bias, precision)
        self.second = make_product(layer.fc2.weight, layer.fc2.bias, precision)
        self.relu = layer.activation_fn.startswith("relu")
        self.activate = _IN_PLACE[layer.activation_fn]
        self.norm = None if layer.ffn_layernorm is None else Norm(layer.ffn_layernorm)

    def __call__(self, x: Tensor, out: Tensor, work: Workspace) -> None:
        hidden = work.rows("hidden", self.hidden)
        self.first(x, hidden, work, relu=self.relu)
        if self.activate is not None:
            self.activate(hidden)
        if self.norm is not None:
            self.norm(hidden, hidden)
        self.second(hidden, out, work)


class SpadeMixer(Mixer):
    """A :class:`ecgcore.nn.SpadeDecoderLayer` with every option it has."""

    def __init__(self, layer: SpadeDecoderLayer, setting: Setting) -> None:
        precision = setting.precision
        s4 = layer.s4_module
        self.convolve = None if s4 is None else Convolution(s4.s4, setting)
        self.attend = Attention(layer.self_attn, layer.c_attn, precision)
        self.attn_norm = None if layer.attn_ln is None else Norm(layer.attn_ln)
        self.combine, self.share = layer.combine, layer.s4_weight
        self.global_norm, self.local_norm = Norm(layer.norm_global), Norm(layer.norm_local)
        self.aggregate: Product | None = None
        if layer.aggregate is not None:
            self.aggregate = make_product(layer.aggregate.weight, layer.aggregate.bias, precision)
        self.feed_forward = FeedForward(layer, precision)
        # In front of the two parts, or behind their residuals.
        self.before = layer.normalize_before
        nothing = Norm(None)
        norms = (Norm(layer.self_attn_layer_norm), Norm(layer.final_layer_norm))
        self.front, self.behind = norms, (nothing, nothing) if self.before else norms
        self.w_resid = None if layer.w_resid is None else frozen(layer.w_resid)

    def __call__(
        self,
        x: Tensor,
        out: Tensor,
        work: Workspace,
        *,
        shift: Tensor | None = None,
        gate: bool = False,
    ) -> None:
        F = x.shape[2]
        seen = self._seen(0, x, work)
        mixed = self._mix(seen, work)
        middle, fed = work.rows("middle", F), work.rows("attended", F)
        self.behind[0](mixed, middle, x)
        self.feed_forward(self._seen(1, middle, work), fed, work)
        residual = middle
        if self.w_resid is not None:
            residual.mul_(self.w_resid)
        self.behind[1](fed, out, residual, shift=shift, gate=gate)

    def _seen(self, part: int, x: Tensor, work: Workspace) -> Tensor:
        """What a part takes: ``x``, or its layer norm."""
        if not self.before:
            return x
        seen = work.rows("seen", x.shape[2])
        self.front[part](x, seen)
        return seen

    def _mix(self, x: Tensor, work: Workspace) -> Tensor:
        F = x.shape[2]
        whole, local = work.rows("whole", F), work.rows("local", F)
        if self.convolve is not None:
            self.convolve(x, whole)
        self.attend(whole if self.combine == "stack" else x, local, work)
        if self.attn_norm is not None:
            self.attn_norm(local, local)
        if self.combine == "add":
            self.global_norm(whole, whole, scale=self.share)
            self.local_norm(local, whole, scale=1.0 - self.share, accumulate=True)
            return whole
        if self.aggregate is not None:
            both = work.rows("both", 2 * F)
            self.global_norm(whole, both[..., :F])
            self.local_norm(local, both[..., F:])
            self.aggregate(both, whole, work)
            return whole
        return local


def make_mixer(layer: nn.Module, setting: Setting) -> Mixer:
    """The mixer of a layer that :mod:`~.structure` knows."""
    if isinstance(layer, s4model.S4Layer):
        return S4Mixer(layer, setting)
    assert isinstance(layer, SpadeDecoderLayer)
    return SpadeMixer(layer, setting)

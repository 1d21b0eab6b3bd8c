"""The SPADE layer: a global state-space layer beside local attention, then a feed-forward part.

Zuo, Liu, Jiao et al., "Efficient Long Sequence Modeling via State Space Augmented Transformer"
(2022), on the layout of fairseq's transformer decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgcore.nn.elsm_s4 import S4Module
from ecgcore.nn.linear import Linear
from ecgcore.nn.local_attention import LocalAttention
from ecgcore.nn.spade_config import spade_config


def _relu_squared(x: Tensor) -> Tensor:
    return F.relu(x).square()


def _unchanged(x: Tensor) -> Tensor:
    return x


_gelu_by_tanh = partial(F.gelu, approximate="tanh")

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu_squared": _relu_squared,
    "gelu": F.gelu,
    "gelu_fast": _gelu_by_tanh,
    "gelu_accurate": _gelu_by_tanh,
    "tanh": torch.tanh,
    "swish": F.silu,
    "linear": _unchanged,
}
"""What ``activation_fn`` may name, as in fairseq."""


class SpadeDecoderLayer(nn.Module):
    r"""S4 over the whole signal mixed with local attention, then two maps with an activation.

    With ``g`` the :class:`S4Module` and ``a`` the :class:`LocalAttention` of ``x``, ``m`` is
    ``s4_weight LN(g) + (1 - s4_weight) LN(a)`` (``s4_local_combine`` "add"), a linear map of both
    ("concat"), or the attention of ``g`` ("stack"); in layers without S4 it is ``a``. Then

    .. math:: x_1 = \mathrm{LN}(x + m), \quad
        x_2 = \mathrm{LN}(x_1 + W_2 \, f(W_1 x_1 + b_1) + b_2),

    or with ``decoder.normalize_before`` the layer norms in front of the two parts instead.

    Args:
        cfg: a mapping with the dotted names of :data:`ecgcore.nn.spade_config.SPADE_DEFAULTS`.
            ``scale_attn``, ``scale_fc`` put layer norms behind the attention and the activation,
            ``scale_resids`` weighs the second residual, ``scale_heads`` the heads (layers without
            S4 only). ``relu_dropout`` stands in for an ``activation_dropout`` of 0.
            ``encoder.embed_dim``, ``attention_type``, ``use_relative_attention`` and ``export`` are
            accepted without effect, as in the reference.
        has_relative_attention_bias: of :class:`LocalAttention`.
        layer_idx: place in a stack; every ``s4_every_n_layers``-th layer, the first included, has
            an S4.
        **kernel_args: for :class:`S4Module`, such as ``exact_nodes``.

    Draws at construction, in this order: attention, S4, the map of "concat", the two maps.

    Raises:
        ValueError: for settings that are unknown, out of range or do not go together.
    """

    def __init__(
        self,
        cfg: Mapping[str, Any] | None = None,
        *,
        has_relative_attention_bias: bool = False,
        layer_idx: int = 0,
        **kernel_args: Any,
    ) -> None:
        super().__init__()
        c = spade_config(cfg)
        if layer_idx < 0:
            raise ValueError(f"SpadeDecoderLayer: layer_idx must be at least 0, got {layer_idx}")
        if c["activation_fn"] not in ACTIVATIONS:
            raise ValueError(
                f"SpadeDecoderLayer: activation_fn must be one of {', '.join(ACTIVATIONS)}, "
                f"got {c['activation_fn']!r}"
            )
        for name in ("cross_self_attention", "quant_noise.pq"):
            if c[name]:
                raise ValueError(f"SpadeDecoderLayer: {name} is not available, got {c[name]}")
        with_s4 = layer_idx % c["s4_every_n_layers"] == 0
        if c["scale_heads"] and with_s4:
            raise ValueError("SpadeDecoderLayer: scale_heads goes with layers without S4 only")

        E, hidden, heads = (
            c[f"decoder.{name}"] for name in ("embed_dim", "ffn_embed_dim", "attention_heads")
        )
        self.embed_dim, self.num_heads = E, heads
        self.normalize_before, self.s4_weight = c["decoder.normalize_before"], c["s4_weight"]
        self.combine = c["s4_local_combine"] if with_s4 else None
        self.activation_fn, self.dropout = c["activation_fn"], c["dropout"]
        self.activation_dropout = c["activation_dropout"] or c["relu_dropout"]
        norm = nn.LayerNorm

        self.self_attn = LocalAttention(
            E,
            heads,
            local_radius=c["local_radius"],
            dropout=c["attention_dropout"],
            has_relative_attention_bias=has_relative_attention_bias,
            relative_attention_num_buckets=c["relative_attention_num_buckets"],
            relative_attention_max_distance=c["relative_attention_max_distance"],
        )
        self.c_attn = nn.Parameter(torch.ones(heads)) if c["scale_heads"] else None
        self.attn_ln = norm(E) if c["scale_attn"] else None
        self.s4_module = S4Module(c, **kernel_args) if with_s4 else None
        self.aggregate = Linear(2 * E, E) if self.combine == "concat" else None
        two = self.combine in ("add", "concat")
        self.norm_global, self.norm_local = (norm(E) if two else None for _ in range(2))
        self.self_attn_layer_norm = norm(E)
        self.ffn_layernorm = norm(hidden) if c["scale_fc"] else None
        self.w_resid = nn.Parameter(torch.ones(E)) if c["scale_resids"] else None
        self.fc1, self.fc2 = Linear(E, hidden), Linear(hidden, E)
        self.final_layer_norm = norm(E)

    def forward(
        self,
        x: Tensor,
        padding_mask: Tensor | None = None,
        local_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
    ) -> tuple[Tensor, None, None, Tensor | None]:
        """``(L, B, F) -> (L, B, F)``.

        Args:
            x: signals.
            padding_mask: ``(B, L)`` bool, true where the S4 sees zeros.
            local_mask, position_bias: of :class:`LocalAttention`.

        Returns:
            ``(x, None, None, position_bias)``, as the reference; the bias is ``None`` if there is
            none.

        Raises:
            ValueError: for shapes that do not fit.
        """
        if x.dim() != 3 or x.shape[2] != self.embed_dim or x.shape[0] < 1:
            raise ValueError(
                f"SpadeDecoderLayer: x must have shape (L, B, {self.embed_dim}) with L >= 1, "
                f"got {tuple(x.shape)}"
            )
        before, after = self._norms()
        # The same signal twice: in the caller's memory layout for the S4, which wants time last and
        # may find it so; by rows of features for everything else, copied here once.
        rows = x.contiguous()
        seen = before(self.self_attn_layer_norm, rows)
        whole = self._whole(x if seen is rows else seen, padding_mask)
        if self.combine == "stack" and whole is not None:
            seen = whole
        local, position_bias = self._local(seen, local_mask, position_bias)
        mixed = self._dropped(self._mix(whole, local))
        x = after(self.self_attn_layer_norm, rows + mixed)
        fed = self._dropped(self._feed_forward(before(self.final_layer_norm, x)))
        residual = x if self.w_resid is None else self.w_resid * x
        return after(self.final_layer_norm, residual + fed), None, None, position_bias

    def _norms(self) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
        """How a layer norm acts in front of a part and behind its residual."""

        def norm(module: nn.Module, x: Tensor) -> Tensor:
            y: Tensor = module(x)
            return y

        def leave(module: nn.Module, x: Tensor) -> Tensor:
            return x

        return (norm, leave) if self.normalize_before else (leave, norm)

    def _whole(self, x: Tensor, padding_mask: Tensor | None) -> Tensor | None:
        return None if self.s4_module is None else self.s4_module(x, padding_mask)

    def _local(
        self, x: Tensor, local_mask: Tensor | None, position_bias: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        local, position_bias = self.self_attn(x, local_mask, position_bias)
        if self.c_attn is not None:
            local = (local.unflatten(2, (self.num_heads, -1)) * self.c_attn[:, None]).flatten(2)
        return local if self.attn_ln is None else self.attn_ln(local), position_bias

    def _mix(self, whole: Tensor | None, local: Tensor) -> Tensor:
        if self.norm_global is None or self.norm_local is None:
            return local
        whole, local = self.norm_global(whole), self.norm_local(local)
        if self.aggregate is not None:
            y: Tensor = self.aggregate(torch.cat([whole, local], -1))
            return y
        dtype = torch.promote_types(local.dtype, whole.dtype)  # autocast may leave them different
        return torch.lerp(local.to(dtype), whole.to(dtype), self.s4_weight)

    def _feed_forward(self, x: Tensor) -> Tensor:
        hidden = self.fc1(x)
        if self.activation_fn == "relu":  # in place: nothing else wants the widest tensor there is
            hidden = F.relu_(hidden)
        else:
            hidden = ACTIVATIONS[self.activation_fn](hidden)
        hidden = F.dropout(hidden, self.activation_dropout, self.training)
        if self.ffn_layernorm is not None:
            hidden = self.ffn_layernorm(hidden)
        y: Tensor = self.fc2(hidden)
        return y

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

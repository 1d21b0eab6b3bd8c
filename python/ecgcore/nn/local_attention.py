"""Self-attention within blocks and their neighbours, as SPADE layers have it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgcore import ops
from ecgcore.nn.linear import Linear


def relative_position_buckets(
    relative: Tensor, *, bidirectional: bool, num_buckets: int, max_distance: int
) -> Tensor:
    """The bucket of each relative position: half of the buckets hold one distance each, the rest
    grow with its logarithm (Raffel et al., "T5", 2020, section 2.1).

    Args:
        relative: key position minus query position, integer, any shape.
        bidirectional: half of the buckets for keys on either side; otherwise all keys to the right
            share bucket 0.
        num_buckets: of all.
        max_distance: from here on everything is in the last bucket.

    Returns:
        int64, like ``relative``.
    """
    first = torch.zeros_like(relative)
    if bidirectional:
        num_buckets //= 2
        first = num_buckets * (relative > 0)
        distance = relative.abs()
    else:
        distance = (-relative).clamp(min=0)
    exact = num_buckets // 2
    # In single precision and cut off, not rounded: checkpoints know these buckets.
    decades = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    far = exact + (decades * (num_buckets - exact)).long()
    return first + torch.where(distance < exact, distance, far.clamp(max=num_buckets - 1))


def local_attention_mask(attention_mask: Tensor, block_length: int) -> Tensor:
    """The mask that keeps attention among valid samples less than a block apart.

    Args:
        attention_mask: ``(B, L)``, true or non-zero where a sample is valid.
        block_length: ``T``; :class:`LocalAttention` has ``local_radius + 1``.

    Returns:
        ``(B, 1, ceil(L / T), T, 3 T)`` bool, true where allowed, as
        :func:`ecgcore.ops.local_attention` takes it.

    Raises:
        ValueError: for another shape, or a block without samples.
    """
    if attention_mask.dim() != 2:
        raise ValueError(
            "local_attention_mask: attention_mask must have shape (B, L), "
            f"got {tuple(attention_mask.shape)}"
        )
    if block_length < 1:
        raise ValueError(
            f"local_attention_mask: block_length must be at least 1, got {block_length}"
        )
    T, L = block_length, attention_mask.shape[1]
    blocks = -(-L // T)
    # One block of invalid samples before the first, and enough behind the last.
    valid = F.pad(attention_mask != 0, (T, (blocks + 1) * T - L))
    queries = valid[:, T:-T].unflatten(1, (blocks, T))[..., None]  # (B, blocks, T, 1)
    keys = valid.unfold(1, 3 * T, T)[:, :, None]  # (B, blocks, 1, 3 T)
    near = _relative(T, attention_mask.device).abs() < T
    return (queries & keys & near)[:, None]


def _relative(T: int, device: torch.device) -> Tensor:
    """Key minus query position in a block, ``(T, 3 T)``."""
    own = torch.arange(T, device=device)[:, None]
    return torch.arange(-T, 2 * T, device=device) - own


class LocalAttention(nn.Module):
    """Attention of every block of ``local_radius + 1`` samples to itself and its neighbours.

    Both ways in time, whatever ``is_decoder`` says, and up to two blocks far; the zeros beyond the
    ends of the sequence take part in the softmax unless a mask leaves them out: this is what the
    reference computes, see :func:`ecgcore.ops.local_attention`.

    Args:
        embed_dim: features, a multiple of ``num_heads``.
        num_heads: attention heads.
        local_radius: one less than the length of a block.
        dropout: rate, on the attention weights in training. Not 0, it takes plain torch and a
            matrix of ``L x L`` weights per head in memory.
        is_decoder: of the bias only: keys to the right share one bucket.
        has_relative_attention_bias: learn a bias for every head and bucket of relative positions.
        relative_attention_num_buckets, relative_attention_max_distance: see
            :func:`relative_position_buckets`.

    Draws at construction, in this order: the bias, the maps q, k, v, o as torch initialises them,
    then k, v, q, o anew (Xavier uniform, the first three with gain ``sqrt(1/2)``).

    Raises:
        ValueError: for sizes that do not fit.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        local_radius: int = 127,
        dropout: float = 0.0,
        is_decoder: bool = True,
        has_relative_attention_bias: bool = False,
        relative_attention_num_buckets: int = 32,
        relative_attention_max_distance: int = 128,
    ) -> None:
        super().__init__()
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ValueError(
                "LocalAttention: embed_dim must be a multiple of num_heads, "
                f"got {embed_dim} and {num_heads}"
            )
        if local_radius < 0:
            raise ValueError(f"LocalAttention: local_radius must be at least 0, got {local_radius}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"LocalAttention: dropout must be in [0, 1), got {dropout}")
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.block_length, self.dropout, self.is_decoder = local_radius + 1, dropout, is_decoder
        self.num_buckets = relative_attention_num_buckets
        self.max_distance = relative_attention_max_distance
        self.relative_attention_bias = None
        if has_relative_attention_bias:
            self._check_buckets()
            self.relative_attention_bias = nn.Embedding(self.num_buckets, num_heads)
        self.q, self.k, self.v, self.o = (
            Linear(embed_dim, embed_dim, bias=False) for _ in range(4)
        )
        for linear in (self.k, self.v, self.q):
            nn.init.xavier_uniform_(linear.weight, gain=math.sqrt(0.5))
        nn.init.xavier_uniform_(self.o.weight)

    def _check_buckets(self) -> None:
        exact = self.num_buckets // (2 if self.is_decoder else 4)
        if exact < 1 or self.max_distance <= exact:
            raise ValueError(
                "LocalAttention: relative_attention_num_buckets must be at least "
                f"{2 if self.is_decoder else 4}, and relative_attention_max_distance beyond the "
                f"{exact} distances with a bucket of their own, "
                f"got {self.num_buckets} and {self.max_distance}"
            )

    def position_bias(self) -> Tensor | None:
        """What is added to the logits, ``(1, 1, heads, T, 3 T)``; ``None`` without a bias."""
        if self.relative_attention_bias is None:
            return None
        weight = self.relative_attention_bias.weight
        buckets = relative_position_buckets(
            _relative(self.block_length, weight.device),
            bidirectional=not self.is_decoder,
            num_buckets=self.num_buckets,
            max_distance=self.max_distance,
        )
        return self.relative_attention_bias(buckets).permute(2, 0, 1)[None, None]

    def forward(
        self, x: Tensor, local_mask: Tensor | None = None, position_bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """``(L, B, F) -> (L, B, F)``.

        Args:
            x: signals.
            local_mask: ``(B, 1, ceil(L / T), T, 3 T)`` bool with ``T = local_radius + 1``, true
                where attention is allowed; :func:`local_attention_mask` makes one.
            position_bias: ``(1, 1, heads, T, 3 T)``, in place of the layer's own.

        Returns:
            The output, and the bias that was used, for the next layer; ``None`` if there was none.

        Raises:
            ValueError: for shapes that do not fit.
        """
        if x.dim() != 3 or x.shape[2] != self.embed_dim or x.shape[0] < 1:
            raise ValueError(
                f"LocalAttention: x must have shape (L, B, {self.embed_dim}) with L >= 1, "
                f"got {tuple(x.shape)}"
            )
        if position_bias is None:
            position_bias = self.position_bias()
        else:
            expected = (1, 1, self.num_heads, self.block_length, 3 * self.block_length)
            if tuple(position_bias.shape) != expected:
                raise ValueError(
                    f"LocalAttention: position_bias must have shape {expected}, "
                    f"got {tuple(position_bias.shape)}"
                )
        q, k, v = (self._heads(linear(x)) for linear in (self.q, self.k, self.v))
        bias = None if position_bias is None else position_bias[0, 0]
        y = self._attend(q, k, v, bias, local_mask)
        return self.o(y.permute(2, 0, 1, 3).flatten(2)), position_bias

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.num_heads, -1)).permute(1, 2, 0, 3)  # (B, heads, L, d)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        if not (self.training and self.dropout > 0):
            return ops.local_attention(q, k, v, self.block_length, bias=bias, mask=mask)
        # The weights are what attention makes of one-hot values. Those of samples beyond the ends
        # are not among them: their values are zero.
        B, heads, L, _ = q.shape
        each = torch.eye(L, dtype=q.dtype, device=q.device).expand(B, heads, L, L)
        weights = ops.reference.local_attention(q, k, each, self.block_length, bias=bias, mask=mask)
        return F.dropout(weights, self.dropout) @ v

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, block_length={self.block_length}"

# SPDX-License-Identifier: MIT
"""Rows of local attention: ecgcore, copies as in the reference, and torch's fused attention."""

from __future__ import annotations

from collections.abc import Iterable

import torch

import anchors
from ecgcore import ops
from ecgcore.testing.cases import LocalAttentionCase
from measure import Row, Variant


def attention_rows(
    device: str, B: int = 4, heads: int = 8, L: int = 1000, d: int = 64, T: int = 128
) -> Iterable[Row]:
    """A layer of DSAT-ECG by default, as its heads come out of the projections: ``(L, B, heads,
    d)`` in memory."""
    case = LocalAttentionCase(B=B, heads=heads, L=L, d=d, T=T)
    drawn = case.inputs(torch.float32, device)
    inputs = {
        **{x: drawn[x].permute(2, 0, 1, 3).contiguous().permute(1, 2, 0, 3) for x in "qkv"},
        "block_length": T,
    }
    variants = [
        Variant("ecgcore", ops.local_attention, inputs, ops.reference.local_attention),
        Variant("three copies", anchors.copied_attention, inputs, ops.reference.local_attention),
        Variant("torch SDPA", anchors.overlapping_attention, inputs, ops.reference.local_attention),
    ]
    shape, slices = f"B={B} heads={heads} L={L} d={d} T={T}", dict.fromkeys("qkv", 1)
    yield Row("local_attention", shape, "forward", variants, (), slices)
    yield Row("local_attention", shape, "forward + backward", variants, case.wrt, slices)

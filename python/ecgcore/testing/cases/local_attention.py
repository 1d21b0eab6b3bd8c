# SPDX-License-Identifier: MIT
"""Cases of ``local_attention`` and ``local_attention_into``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ecgcore.testing.cases.base import Case, Draw


@dataclass(frozen=True, kw_only=True)
class LocalAttentionCase(Case):
    """``q``, ``k``, ``v`` of shape ``(B, heads, L, d)`` in blocks of ``T``."""

    op: ClassVar[str] = "local_attention"
    half: ClassVar[tuple[str, ...]] = ("q", "k", "v")
    B: int
    heads: int
    L: int
    d: int
    T: int
    bias: bool = False
    mask: bool = False
    pad_keys_attend: bool = True
    window: int | None = None

    @property
    def name(self) -> str:
        words = [f"B{self.B}_h{self.heads}_L{self.L}_d{self.d}_T{self.T}"]
        words += ["bias"] * self.bias + ["mask"] * self.mask
        words += ["nopad"] * (not self.pad_keys_attend)
        return "_".join(words + [f"w{self.window}"] * (self.window is not None))

    @property
    def wrt(self) -> tuple[str, ...]:
        return ("q", "k", "v", *(("bias",) if self.bias else ()))

    def draw(self, draw: Draw) -> dict[str, Any]:
        q, k, v = (draw.normal(self.B, self.heads, self.L, self.d) for _ in range(3))
        inputs = {"q": q, "k": k, "v": v, "block_length": self.T}
        inputs |= {"pad_keys_attend": self.pad_keys_attend, "window": self.window}
        if self.bias:
            inputs["bias"] = draw.normal(self.heads, self.T, 3 * self.T)
        if self.mask:
            blocks = -(-self.L // self.T)
            allowed = draw.uniform(0.0, 1.0, self.B, 1, blocks, self.T, 3 * self.T) < 0.7
            # A row without any key is uniform in float32 and not in float64, where adding -1e10
            # leaves more of the logits.
            allowed[..., range(self.T), range(self.T, 2 * self.T)] = True
            inputs["mask"] = allowed
        return inputs


def _attention(
    B: int, heads: int, L: int, d: int, T: int, *tags: str, **options: Any
) -> LocalAttentionCase:
    return LocalAttentionCase(B=B, heads=heads, L=L, d=d, T=T, tags=frozenset(tags), **options)


LOCAL_ATTENTION = (
    _attention(1, 1, 1, 1, 1, "gradcheck", note="three columns, two of them zeros"),
    _attention(1, 2, 5, 3, 2, "gradcheck", "quick", bias=True),
    _attention(2, 1, 4, 2, 3, "gradcheck", mask=True, window=2),
    _attention(1, 1, 5, 2, 4, "gradcheck", bias=True, mask=True, pad_keys_attend=False),
    _attention(1, 2, 7, 3, 3, "gradcheck", pad_keys_attend=False, window=2),
    _attention(2, 2, 37, 5, 8, "quick", note="odd everything"),
    _attention(1, 3, 50, 16, 16, bias=True, mask=True),
    _attention(2, 1, 130, 64, 128, "quick", note="the last block has two queries"),
    _attention(1, 2, 200, 33, 200, bias=True, note="one block, wider than a tile"),
    _attention(1, 2, 1000, 64, 128, note="a head of a DSAT-ECG layer"),
    _attention(1, 1, 1000, 64, 128, pad_keys_attend=False, window=100, note="a sliding window"),
    _attention(1, 1, 1009, 7, 1, note="prime, blocks of one"),
    _attention(1, 1, 40, 80, 1000, bias=True, note="one block, longer than the sequence"),
    _attention(512, 1, 3, 2, 2, note="split over threads"),
    _attention(64, 8, 3, 2, 2, bias=True, note="512 slices to sum the gradient of the bias over"),
    _attention(4, 8, 1000, 64, 128, "bench", note="a DSAT-ECG layer"),
)


@dataclass(frozen=True, kw_only=True)
class LocalAttentionIntoCase(LocalAttentionCase):
    """The same, written into ``out``, and what the softmax divided by into ``stats``."""

    op: ClassVar[str] = "local_attention_into"
    writes: ClassVar[tuple[str, ...]] = ("out", "stats")

    @property
    def wrt(self) -> tuple[str, ...]:
        return ()

    def draw(self, draw: Draw) -> dict[str, Any]:
        inputs = super().draw(draw)
        return inputs | {
            "out": torch.zeros_like(inputs["q"]),
            "stats": torch.zeros(self.B, self.heads, self.L, 2, dtype=torch.float64),
        }


def _into(
    B: int, heads: int, L: int, d: int, T: int, *tags: str, **options: Any
) -> LocalAttentionIntoCase:
    return LocalAttentionIntoCase(B=B, heads=heads, L=L, d=d, T=T, tags=frozenset(tags), **options)


LOCAL_ATTENTION_INTO = (
    _into(1, 1, 1, 1, 1, "gradcheck", note="three columns, two of them zeros"),
    _into(1, 2, 5, 3, 2, "gradcheck", "quick", bias=True),
    _into(2, 1, 4, 2, 3, mask=True, window=2),
    _into(2, 2, 37, 5, 8, "quick", note="odd everything"),
    _into(1, 2, 1000, 64, 128, bias=True, note="heads of a DSAT-ECG layer"),
    _into(512, 1, 3, 2, 2, note="split over threads"),
)

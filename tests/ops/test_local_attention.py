# SPDX-License-Identifier: MIT
"""Three-block local attention: its meaning, key by key, and what the reference recorded."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from ecgcore.ops import local_attention
from ecgcore.testing.compare import relative_error
from support import recorded, recorded_names


def _inputs(
    B: int, heads: int, L: int, d: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = torch.randn(3, B, heads, L, d, dtype=torch.float64).to(dtype)
    return q, k, v


def _by_hand(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    T: int,
    *,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    scale: float | None = None,
    pad_keys_attend: bool = True,
    window: int | None = None,
) -> Tensor:
    """One query and one key at a time."""
    B, heads, L, d = q.shape
    y = torch.zeros_like(q)
    for b in range(B):
        for h in range(heads):
            for i in range(L):
                n, t = divmod(i, T)
                logits, values = [], []
                for c in range(3 * T):
                    j = (n - 1) * T + c
                    inside = 0 <= j < L
                    if not inside and not pad_keys_attend:
                        continue
                    if window is not None and abs(i - j) > window:
                        continue
                    logit = 0.0
                    if inside:
                        logit = float(q[b, h, i] @ k[b, h, j]) * (scale or d**-0.5)
                    if bias is not None:
                        logit += float(bias.expand(heads, T, 3 * T)[h, t, c])
                    if mask is not None and not mask[b, 0, n, t, c]:
                        logit -= 1e10
                    logits.append(logit)
                    values.append(v[b, h, j] if inside else torch.zeros_like(v[b, h, 0]))
                top = max(logits)
                weights = torch.tensor([math.exp(x - top) for x in logits], dtype=q.dtype)
                y[b, h, i] = weights @ torch.stack(values) / weights.sum()
    return y


@pytest.mark.parametrize("L", [1, 3, 4, 5, 11])
@pytest.mark.parametrize("pad_keys_attend", [True, False])
@pytest.mark.parametrize("window", [None, 0, 2, 4])
@pytest.mark.parametrize("extra", ["", "bias", "mask", "bias mask"])
def test_meaning(L: int, pad_keys_attend: bool, window: int | None, extra: str) -> None:
    T, nb = 4, -(-L // 4)
    options: dict[str, Any] = {"pad_keys_attend": pad_keys_attend, "window": window, "scale": 0.7}
    if "bias" in extra:
        options["bias"] = torch.randn(2, T, 3 * T, dtype=torch.float64)
    if "mask" in extra:
        options["mask"] = torch.rand(2, 1, nb, T, 3 * T) < 0.7
    q, k, v = _inputs(2, 2, L, 3, torch.float64)
    expected = _by_hand(q, k, v, T, **options)
    torch.testing.assert_close(local_attention(q, k, v, T, **options), expected)


@pytest.mark.parametrize("name", recorded_names("local_attn__*"))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_recorded_layer(name: str, dtype: torch.dtype) -> None:
    """The reference's layer is this op between linear maps."""
    file = recorded(name)
    heads, T = file.config["kwargs"]["num_heads"], file.config["kwargs"]["local_radius"] + 1
    leaves = {f"state/{key}": value.to(dtype) for key, value in file.under("state").items()}
    leaves["in/x"] = file["in/x"].to(dtype)
    for leaf in leaves.values():
        leaf.requires_grad_()
    q, k, v = (
        linear(leaves["in/x"], leaves[f"state/{key}.weight"])
        .unflatten(-1, (heads, -1))
        .permute(1, 2, 0, 3)
        for key in "qkv"
    )
    table = leaves.get("state/relative_attention_bias.weight")
    bias = None if table is None else table[file["out/bucket"]].permute(2, 0, 1)
    mask = file["in/local_mask"].bool() if "in/local_mask" in file else None
    y = local_attention(q, k, v, T, bias=bias, mask=mask).permute(2, 0, 1, 3).flatten(2)
    y = linear(y, leaves["state/o.weight"])
    expected, cotangent = file["out64/y"], file["in/cot"].to(dtype)
    gradients = torch.autograd.grad(y, list(leaves.values()), cotangent)
    real = torch.ones(y.shape[:2], dtype=torch.bool)
    if "in/attention_mask" in file:  # queries that are padding: -1e10 erases their logits
        real = file["in/attention_mask"].bool().T
    limit = (2e-6, 5e-6) if dtype == torch.float32 else (1e-13, 1e-13)
    assert relative_error(y[real], expected[real]) < limit[0]
    for key, gradient in zip(leaves, gradients, strict=True):
        assert relative_error(gradient, file[f"grad64/{key}"]) < limit[1], key


def _change(**changes: Any) -> dict[str, Any]:
    return changes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _change(q=torch.zeros(3, 8)),
            r"q must have shape \(B, heads, L, d\), got \(3, 8\)",
        ),
        (_change(q=torch.zeros(2, 2, 0, 4)), r"q must have heads, L, d >= 1, got \(2, 2, 0, 4\)"),
        (_change(q=torch.zeros(2, 2, 9, 4, dtype=torch.int64)), "q must be float32 or float64 or"),
        (
            _change(k=torch.zeros(2, 2, 8, 4)),
            r"k must have shape \(B, heads, L, d\) = \(2, 2, 9, 4\), got \(2, 2, 8, 4\)",
        ),
        (_change(v=torch.zeros(2, 2, 9, 4).double()), "v must be float32, got float64"),
        (_change(v=torch.zeros(2, 2, 9, 4, device="meta")), "v must be on cpu, got meta"),
        (_change(block_length=0), "block_length must be at least 1, got 0"),
        (
            _change(bias=torch.zeros(2, 4, 11)),
            r"bias must broadcast to \(heads, T, 3 T\) = \(2, 4, 12\), got \(2, 4, 11\)",
        ),
        (_change(bias=torch.zeros(1, 2, 4, 12)), r"got \(1, 2, 4, 12\)"),
        (_change(bias=torch.zeros(2, 4, 12).double()), "bias must be float32, got float64"),
        (
            _change(mask=torch.ones(2, 2, 3, 4, 12, dtype=torch.bool)),
            r"mask must have shape \(B, 1, nb, T, 3 T\) = \(2, 1, 3, 4, 12\), got \(2, 2, 3,",
        ),
        (_change(mask=torch.ones(2, 1, 3, 4, 12)), "mask must be bool, got float32"),
        (_change(window=5), r"window must lie in 0..block_length = 0..4, got 5"),
        (_change(window=-1), r"window must lie in 0..block_length = 0..4, got -1"),
    ],
)
def test_wrong_arguments_name_what_was_expected(change: dict[str, Any], message: str) -> None:
    q, k, v = _inputs(2, 2, 9, 4)
    arguments = {"q": q, "k": k, "v": v, "block_length": 4, **change}
    with pytest.raises(ValueError, match=message):
        local_attention(**arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_change(k=[1.0]), "k must be a tensor, got list"),
        (_change(bias=1.0), "bias must be a tensor, got float"),
        (_change(block_length=4.0), "block_length must be an int, got float"),
        (_change(scale="1"), "scale must be a float, got str"),
        (_change(window=True), "window must be an int, got bool"),
    ],
)
def test_arguments_of_another_type(change: dict[str, Any], message: str) -> None:
    q, k, v = _inputs(2, 2, 9, 4)
    with pytest.raises(TypeError, match=message):
        local_attention(**{"q": q, "k": k, "v": v, "block_length": 4, **change})

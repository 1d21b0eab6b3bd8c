# SPDX-License-Identifier: MIT
"""Three-block local attention: its meaning, key by key, and what the reference recorded."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

import ecgcore
from ecgcore.ops import local_attention, reference
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


@pytest.mark.parametrize("T", [16, 128])
@pytest.mark.parametrize("window", [0, 5, 16])
def test_sliding_window_is_banded_attention(T: int, window: int) -> None:
    q, k, v = _inputs(2, 2, 100, 8)
    distance = (torch.arange(100)[:, None] - torch.arange(100)).abs()
    expected = torch.nn.functional.scaled_dot_product_attention(
        q.double(), k.double(), v.double(), attn_mask=distance <= window
    )
    found = local_attention(q, k, v, T, window=window, pad_keys_attend=False)
    assert relative_error(found, expected) < 2e-6


def test_queries_that_may_attend_to_nothing_are_uniform_as_in_the_reference() -> None:
    q, k, v = (x.requires_grad_() for x in _inputs(1, 2, 20, 4))
    bias = torch.randn(2, 8, 24, requires_grad=True)
    mask = torch.ones(1, 1, 3, 8, 24, dtype=torch.bool)
    mask[0, 0, 1, 3] = False  # query 11: -1e10 erases its logits
    y = local_attention(q, k, v, 8, bias=bias, mask=mask)
    assert relative_error(y[:, :, 11], v[:, :, :20].sum(2) / 24) < 1e-6
    expected = reference.local_attention(q, k, v, 8, bias=bias, mask=mask)
    dy = torch.randn_like(y)
    for found, wanted in zip(
        torch.autograd.grad(y, (q, k, v, bias), dy),
        torch.autograd.grad(expected, (q, k, v, bias), dy),
        strict=True,
    ):
        assert relative_error(found, wanted) < 2e-6


@pytest.mark.parametrize("shape", [(), (12,), (4, 1), (1, 4, 12), (3, 1, 1)])
def test_bias_broadcasts_and_collects_its_gradient(shape: tuple[int, ...]) -> None:
    q, k, v = _inputs(2, 3, 9, 5, torch.float64)
    bias = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    y = local_attention(q, k, v, 4, bias=bias)
    expected = reference.local_attention(q, k, v, 4, bias=bias)
    torch.testing.assert_close(y, expected)
    dy = torch.randn_like(y)
    torch.testing.assert_close(
        torch.autograd.grad(y, bias, dy), torch.autograd.grad(expected, bias, dy)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_takes_a_bias_of_either_precision(dtype: torch.dtype) -> None:
    q, k, v = _inputs(1, 2, 9, 5, dtype)
    bias = torch.randn(2, 4, 12).to(dtype).requires_grad_()
    wide = bias.detach().float().requires_grad_()
    y, same = (local_attention(q, k, v, 4, bias=b) for b in (bias, wide))
    assert y.dtype == dtype
    assert torch.equal(y, same)
    dy = torch.randn_like(y)
    (narrow,), (full,) = (torch.autograd.grad(x, b, dy) for x, b in ((y, bias), (same, wide)))
    assert torch.equal(narrow, full.to(dtype))


def test_heads_split_from_a_layer_are_read_where_they_lie() -> None:
    """(L, B, heads, d) seen as (B, heads, L, d): no copy on the way in, none on the way out."""
    q, k, v = torch.randn(50, 2, 3, 4, 8).permute(2, 1, 3, 0, 4)
    assert not q.is_contiguous()
    leaves = [x.requires_grad_() for x in (q, k, v)]
    y = local_attention(*leaves, 16)
    assert y.permute(2, 0, 1, 3).is_contiguous()
    dense = local_attention(*(x.contiguous() for x in leaves), 16)
    assert dense.is_contiguous()
    assert torch.equal(y, dense)
    dy = torch.randn_like(y)
    for found, wanted in zip(
        torch.autograd.grad(y, leaves, dy),
        torch.autograd.grad(dense, leaves, dy.contiguous()),
        strict=True,
    ):
        assert torch.equal(found, wanted)


def test_a_query_sees_three_blocks_and_nothing_else() -> None:
    q, k, v = _inputs(1, 1, 40, 4)
    y = local_attention(q, k, v, 8)
    for x in (k, v):
        x[:, :, 24:] = float("nan")
    seen = torch.isnan(local_attention(q, k, v, 8)).any(-1)[0, 0]
    assert torch.equal(seen, torch.arange(40) >= 16)
    torch.testing.assert_close(local_attention(q, k, v, 8)[:, :, :16], y[:, :, :16])


def test_the_gradients_of_threads_meet_at_blocks(threads: Any) -> None:
    """Each block's keys collect from three blocks of queries, which threads may share."""
    leaves = [x.requires_grad_() for x in _inputs(1, 1, 230, 16)]
    found = []
    for count in (1, 2, 3, 4):
        threads(count)
        y = local_attention(*leaves, 32)
        found.append((y, *torch.autograd.grad(y.square().sum(), leaves)))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_no_scores_and_no_copies_in_memory() -> None:
    q, k, v = (x.requires_grad_() for x in _inputs(2, 4, 1000, 64))
    size = q.numel() * q.element_size()
    with torch.profiler.profile(profile_memory=True) as profile:
        y = local_attention(q, k, v, 128)
        torch.autograd.grad(y, (q, k, v), y.detach())
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held, peak = 0, 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    assert peak < 4.2 * size  # y, dq, dk, dv and the statistics


@pytest.mark.one_isa
def test_every_instruction_set_agrees(cpu_isa: str) -> None:
    q, k, v = _inputs(2, 2, 70, 20)
    bias = torch.randn(2, 32, 96)
    own = local_attention(q, k, v, 32, bias=bias)
    for isa in ecgcore._native.cpu_isas():
        ecgcore._native.set_cpu_isa(isa)
        torch.testing.assert_close(local_attention(q, k, v, 32, bias=bias), own, atol=2e-6, rtol=0)


def test_the_bare_operator_checks_too() -> None:
    op = torch.ops.ecgcore.local_attention
    q, k, v = _inputs(1, 2, 9, 4)
    with pytest.raises(RuntimeError, match="k must be contiguous along its last axis"):
        op(q, k.mT.contiguous().mT, v, 4, None, None, 0.5, True, None)
    with pytest.raises(RuntimeError, match=r"window must lie in 0..block_length = 0..4, got 5"):
        op(q, k, v, 4, None, None, 0.5, True, 5)
    with pytest.raises(
        RuntimeError, match=r"bias must have shape \(heads, T, 3 T\) = \(2, 4, 12\)"
    ):
        op(q, k, v, 4, torch.zeros(1, 4, 12), None, 0.5, True, None)
    with pytest.raises(RuntimeError, match="block_length must be at least 1, got 0"):
        op(q, k, v, 0, None, None, 0.5, True, None)


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
            r"bias must have a shape that broadcasts to .* = \(2, 4, 12\), got \(2, 4, 11\)",
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", [{}, {"pad_keys_attend": False, "window": 3}, {"scale": 0.3}])
def test_into_writes_the_same_bits(dtype: torch.dtype, options: dict[str, Any]) -> None:
    B, heads, L, d, T = 2, 3, 21, 5, 4
    real = torch.float64 if dtype == torch.float64 else torch.float32
    # As a layer has them: side by side in rows of features, and the result in rows of its own.
    rows = torch.randn(B, L, 3 * heads * d, dtype=torch.float64).to(dtype)
    q, k, v = (part.unflatten(2, (heads, d)).transpose(1, 2) for part in rows.chunk(3, 2))
    bias = torch.randn(heads, T, 3 * T, dtype=real)
    mask = torch.rand(B, 1, 6, T, 3 * T) < 0.8
    for given in ({}, {"bias": bias}, {"mask": mask}):
        expected, _ = torch.ops.ecgcore.local_attention(
            q,
            k,
            v,
            T,
            given.get("bias"),
            given.get("mask"),
            options.get("scale", d**-0.5),
            options.get("pad_keys_attend", True),
            options.get("window"),
        )
        out = torch.full((B, L, heads, d), torch.nan, dtype=real).transpose(1, 2)
        stats = torch.full((B, heads, L, 2), torch.nan, dtype=real)
        version = out._version
        found = ecgcore.ops.local_attention_into(q, k, v, out, stats, T, **given, **options)
        assert found is out
        assert torch.equal(out, expected)
        want = torch.empty_like(stats)
        ecgcore.ops.reference.local_attention_into(
            q, k, v, torch.empty_like(out), want, T, **given, **options
        )
        torch.testing.assert_close(stats, want, rtol=1e-5, atol=1e-5)
        assert out._version > version


def test_into_refuses_what_does_not_fit() -> None:
    q, k, v = _inputs(1, 2, 9, 4)
    out, stats = torch.empty_like(q), torch.empty(1, 2, 9, 2)
    into = ecgcore.ops.local_attention_into
    with pytest.raises(ValueError, match="local_attention_into: out must have shape"):
        into(q, k, v, out[..., :3], stats, 4)
    with pytest.raises(ValueError, match=r"local_attention_into: out must be float32, got float64"):
        into(q, k, v, out.double(), stats, 4)
    with pytest.raises(ValueError, match="local_attention_into: stats must have shape"):
        into(q, k, v, out, stats[..., :1], 4)
    with pytest.raises(RuntimeError, match="stats must be contiguous"):
        into(q, k, v, out, torch.empty(1, 2, 2, 9).mT, 4)
    with pytest.raises(RuntimeError, match="out must not share memory with k"):
        into(q, k, v, k, stats, 4)
    with pytest.raises(RuntimeError, match="out must be contiguous along its last axis"):
        into(q, k, v, torch.empty(1, 2, 4, 9).mT, stats, 4)
    with pytest.raises(RuntimeError, match="without a gradient"):
        into(q.requires_grad_(), k, v, out, stats, 4)
    with torch.no_grad():
        into(q, k, v, out, stats, 4)


def test_into_passes_torchs_own_check() -> None:
    q, k, v = _inputs(1, 2, 9, 4)
    out, stats = torch.zeros_like(q), torch.zeros(1, 2, 9, 2)
    torch.library.opcheck(
        torch.ops.ecgcore.local_attention_into.default,
        (q, k, v, 4, None, None, 0.5, True, None, out, stats),
        test_utils=("test_schema", "test_faketensor"),
    )

# SPDX-License-Identifier: MIT
"""``pack_conv`` and ``packed_conv``, beyond what every op promises (test_contract.py)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ecgcore import ops
from ecgcore.testing import relative_error

BF16 = torch.bfloat16
WEIGHTS = pytest.mark.parametrize(
    ("dtype", "weights"),
    [(torch.float32, torch.float32), (torch.float64, torch.float64), (torch.float32, BF16)],
    ids=["f32", "f64", "bf16"],
)


def conv(x: Tensor, weight: Tensor, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
    out = x.new_full((x.shape[0], x.shape[1] - 2, weight.shape[0]), float("nan"))
    return ops.packed_conv(x, ops.pack_conv(weight, dtype), out, **options)


def l2_error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


@WEIGHTS
@pytest.mark.parametrize("C", [1, 12, 256])
def test_it_is_the_convolution_of_torch(C: int, dtype: torch.dtype, weights: torch.dtype) -> None:
    x = torch.randn(2, 63, C, dtype=dtype)
    weight, bias = torch.randn(20, C, 3, dtype=dtype), torch.randn(20, dtype=dtype)
    expected = F.conv1d(x.mT.double(), weight.double(), bias.double()).mT
    limit = 2e-2 if weights == BF16 else 2e-6 if dtype == torch.float32 else 1e-14
    assert relative_error(conv(x, weight, weights, bias=bias), expected) < limit


@pytest.mark.parametrize("smooth", [False, True], ids=["white", "smooth"])
@pytest.mark.parametrize("weights", [torch.float32, BF16], ids=["f32", "bf16"])
def test_errors_are_near_those_of_the_plain_product(weights: torch.dtype, smooth: bool) -> None:
    """On neighbours that have nothing in common, and on neighbours that are alike."""
    B, L, C, N = 1, 200, 256, 64
    x = torch.randn(B, L + 2, C)
    if smooth:
        window = torch.hann_window(32)[None, None].expand(C, 1, -1)
        x = F.conv1d(torch.randn(B, C, L + 33), window, groups=C).mT.contiguous()
    weight = torch.randn(N, C, 3) / math.sqrt(3 * C)
    expected = F.conv1d(x.mT.double(), weight.double()).mT
    neighbours = x.as_strided((B, L, 3 * C), (x.stride(0), C, 1))
    folded = ops.pack_linear(weight.permute(0, 2, 1).flatten(1).to(weights))
    plain = l2_error(ops.packed_linear(neighbours, folded, torch.empty(B, L, N)), expected)
    assert l2_error(conv(x, weight, weights), expected) < (1.2 if smooth else 2) * plain


@WEIGHTS
@pytest.mark.parametrize(("C", "N"), [(5, 3), (300, 40), (513, 33)])
def test_a_record_has_the_same_bits_alone_and_in_any_batch(
    C: int, N: int, dtype: torch.dtype, weights: torch.dtype, threads: Any
) -> None:
    x, weight = torch.randn(3, 215, C, dtype=dtype), torch.randn(N, C, 3, dtype=dtype)
    bias = torch.randn(N, dtype=dtype)
    together = conv(x, weight, weights, bias=bias)
    for count in (1, 2, 3):
        threads(count)
        assert torch.equal(conv(x, weight, weights, bias=bias), together)
        for b in range(3):
            alone = conv(x[b : b + 1], weight, weights, bias=bias)
            assert torch.equal(alone[0], together[b])
        begun = conv(x[:, :50], weight, weights, bias=bias)  # 48 rows are whole tiles
        assert torch.equal(begun, together[:, :48])


@pytest.mark.parametrize("weights", [torch.float32, BF16], ids=["f32", "bf16"])
def test_a_feature_has_the_same_bits_whatever_stands_beside_it(weights: torch.dtype) -> None:
    x, weight = torch.randn(1, 20, 300), torch.randn(100, 300, 3)
    together = conv(x, weight, weights)
    for begin, end in ((0, 1), (0, 16), (16, 40), (64, 100)):
        assert torch.equal(conv(x, weight[begin:end], weights), together[..., begin:end])


@pytest.mark.parametrize("N", [8, 16, 40])
def test_rows_at_any_stride_and_nothing_beside_them(N: int) -> None:
    B, L, C = 3, 30, 24
    wide = torch.randn(B, L + 2, C + 7)
    x, weight = wide[..., 3 : 3 + C], torch.randn(N, C, 3)
    expected = conv(x.contiguous(), weight)
    for order in ((0, 1), (1, 0)):  # samples of rows, rows of samples
        sizes = [(B, L)[axis] for axis in order]
        buffer = torch.full((*sizes, N + 5), 7.0).permute(*order, 2)
        ops.packed_conv(x, ops.pack_conv(weight), buffer[..., 2 : 2 + N])
        assert torch.equal(buffer[..., 2 : 2 + N], expected)
        assert (buffer[..., :2] == 7).all()
        assert (buffer[..., 2 + N :] == 7).all()


def test_nothing_behind_the_last_row_is_read() -> None:
    """A last tile reaches beyond the rows that there are."""
    weight = torch.randn(6, 4, 3)
    for L in range(1, 9):
        buffer = torch.full((2, L + 10, 4), float("nan"))
        buffer[:, : L + 2] = torch.randn(2, L + 2, 4)
        found = conv(buffer[:, : L + 2], weight)
        assert torch.equal(found, conv(buffer[:, : L + 2].clone(), weight))
        assert torch.isfinite(found).all()


@WEIGHTS
def test_infinities_reach_their_tile_and_no_further(
    dtype: torch.dtype, weights: torch.dtype
) -> None:
    x = torch.ones(1, 22, 5, dtype=dtype)
    x[0, 10, 3] = float("inf")
    found = conv(x, torch.ones(6, 5, 3, dtype=dtype), weights)
    assert not torch.isfinite(found[0, 8:11]).any()
    tile = 2 if weights == BF16 else 4
    behind = -(-11 // tile) * tile
    assert torch.isfinite(found[0, :8]).all()
    assert torch.isfinite(found[0, behind:]).all()


@pytest.mark.one_isa
def test_a_packed_weight_holds_values_of_a_polynomial() -> None:
    weight = torch.randn(20, 5, 3, requires_grad=True)
    packed = ops.pack_conv(weight)
    assert packed.shape == (6 * 2 * 16 * 5,)
    assert not packed.requires_grad
    parts = packed.chunk(6)
    g = weight.detach().double()
    assert torch.equal(parts[0], ops.pack_linear((g[..., 0] / (81 / 64)).float()))
    assert torch.equal(parts[5], ops.pack_linear(weight[..., 2]))
    at_one = ops.pack_conv(weight, BF16).chunk(4)[1]
    assert torch.equal(at_one, ops.pack_linear((g.sum(-1) / 2).bfloat16()))
    assert torch.equal(ops.pack_conv(g, torch.float32), packed)
    assert ops.pack_conv(g).dtype == torch.float64


@pytest.mark.one_isa
def test_nothing_in_gives_nothing_or_the_bias() -> None:
    for B, L, C, N in ((0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 4, 0)):
        assert conv(torch.ones(B, L + 2, C), torch.ones(N, C, 3)).shape == (B, L, N)
    found = conv(torch.ones(2, 5, 0), torch.ones(5, 0, 3), bias=torch.ones(5))
    assert torch.equal(found, torch.ones(2, 3, 5))


@pytest.mark.one_isa
def test_autograd_learns_of_the_change_and_no_gradient_is_promised() -> None:
    x, packed = torch.randn(1, 4, 3), ops.pack_conv(torch.randn(4, 3, 3))
    out, leaf = torch.ones(1, 2, 4), torch.ones(1, 2, 4, requires_grad=True)
    product = leaf * out
    ops.packed_conv(x, packed, out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()
    for name in ("x", "packed", "bias"):
        given = {"x": x, "packed": packed, "bias": torch.ones(4)}
        given[name] = given[name].clone().requires_grad_()
        with pytest.raises(RuntimeError, match=r"packed_conv: made for inference.*no_grad"):
            ops.packed_conv(**given, out=out)
        with torch.no_grad():
            assert ops.packed_conv(**given, out=out) is out


def given(**change: Any) -> dict[str, Any]:
    return {
        "x": torch.ones(2, 5, 4),
        "packed": ops.pack_conv(torch.ones(5, 4, 3)),
        "out": torch.ones(2, 3, 5),
        **change,
    }


@pytest.mark.one_isa
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.ones(3, 4)}, r"x must have shape \(B, L, features\), got \(3, 4\)"),
        ({"x": torch.ones(2, 1, 4)}, r"x must have shape \(B, L \+ 2, C\), got \(2, 1, 4\)"),
        ({"x": torch.ones(2, 5, 4).half()}, "x must be float32 or float64, got float16"),
        ({"out": torch.ones(2, 5, 5)}, r"out must have shape \(B, L, N\).*got \(2, 5, 5\)"),
        ({"out": torch.ones(2, 3, 5).double()}, "out must be float32, got float64"),
        ({"out": torch.ones(2, 3, 17)}, r"weight \(17, 4, 3\).* = \(768,\), got \(384,\)"),
        ({"packed": torch.ones(384).double()}, "packed must be float32 or int32, got float64"),
        ({"packed": ops.pack_conv(torch.ones(5, 5, 3), BF16)}, r"= \(128,\), got \(192,\)"),
        ({"packed": torch.ones(384, device="meta")}, "packed must be on cpu, got meta"),
        ({"bias": torch.ones(4)}, r"bias must have shape \(N,\) = \(5,\), got \(4,\)"),
        ({"bias": torch.ones(5).double()}, "bias must be float32, got float64"),
    ],
)
def test_wrong_arguments_name_what_was_expected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ops.packed_conv(**given(**change))


@pytest.mark.one_isa
@pytest.mark.parametrize("name", ["x", "packed", "out", "bias"])
def test_what_is_no_tensor_is_a_type_error(name: str) -> None:
    with pytest.raises(TypeError, match=f"packed_conv: {name} must be a tensor, got list"):
        ops.packed_conv(**given(**{name: [1.0]}))


@pytest.mark.one_isa
def test_outputs_that_cannot_be_written_row_by_row_are_refused() -> None:
    for out, message in (
        (torch.ones(2, 3, 10)[..., ::2], "out must have a dense last axis, got strides"),
        (torch.ones(1, 3, 5).expand(2, 3, 5), "out must not overlap itself"),
    ):
        with pytest.raises(RuntimeError, match=message):
            ops.packed_conv(**given(out=out))
    buffer = torch.zeros(100)
    x, out = buffer.as_strided((2, 5, 4), (20, 4, 1)), buffer.as_strided((2, 3, 5), (15, 5, 1), 39)
    with pytest.raises(RuntimeError, match="out must not share memory with x"):
        ops.packed_conv(**given(x=x, out=out))


@pytest.mark.one_isa
@pytest.mark.parametrize(
    ("weight", "dtype", "message"),
    [
        (torch.ones(3, 4), None, r"weight must have shape \(N, C, 3\)"),
        (torch.ones(3, 4, 5), None, r"weight must have shape \(N, C, 3\)"),
        (torch.ones(3, 4, 3).half(), None, "weight must be float32 or float64 or bfloat16"),
        (torch.ones(3, 4, 3), torch.float16, "dtype must be .* or bfloat16, got float16"),
        ([1.0], None, "weight must be a tensor"),
    ],
)
def test_weights_that_cannot_be_packed_are_named(
    weight: Any, dtype: torch.dtype | None, message: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=f"pack_conv: {message}"):
        ops.pack_conv(weight, dtype)

# SPDX-License-Identifier: MIT
"""``pack_linear`` and ``packed_linear``, beyond what every op promises (test_contract.py)."""

from __future__ import annotations

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


def linear(x: Tensor, weight: Tensor, **options: Any) -> Tensor:
    out = x.new_full((*x.shape[:2], weight.shape[0]), float("nan"))
    return ops.packed_linear(x, ops.pack_linear(weight), out, **options)


@WEIGHTS
@pytest.mark.parametrize(("K", "N"), [(5, 3), (300, 40), (513, 33)])
def test_a_row_has_the_same_bits_alone_and_in_any_batch(
    K: int, N: int, dtype: torch.dtype, weights: torch.dtype, threads: Any
) -> None:
    x, weight = torch.randn(3, 70, K, dtype=dtype), torch.randn(N, K).to(weights)
    bias, shift = torch.randn(N, dtype=dtype), torch.randn(3, N, dtype=dtype)
    together = linear(x, weight, bias=bias, shift=shift)
    for count in (1, 2, 3):
        threads(count)
        for b in range(3):
            for begin, end in ((0, 1), (13, 14), (5, 31), (0, 70)):
                alone = linear(x[b : b + 1, begin:end], weight, bias=bias, shift=shift[b : b + 1])
                assert torch.equal(alone[0], together[b, begin:end])
    one = shift[:1].expand(3, -1)
    assert torch.equal(
        linear(x, weight, bias=bias, shift=shift[:1]), linear(x, weight, bias=bias, shift=one)
    )


@pytest.mark.parametrize("weights", [torch.float32, BF16], ids=["f32", "bf16"])
def test_a_feature_has_the_same_bits_whatever_stands_beside_it(weights: torch.dtype) -> None:
    x, weight = torch.randn(1, 20, 300), torch.randn(100, 300).to(weights)
    together = linear(x, weight)
    for begin, end in ((0, 1), (0, 16), (16, 40), (64, 100)):
        assert torch.equal(linear(x, weight[begin:end]), together[..., begin:end])


@WEIGHTS
@pytest.mark.parametrize("C", [1, 12, 256])
def test_overlapping_rows_are_a_convolution(
    C: int, dtype: torch.dtype, weights: torch.dtype
) -> None:
    B, L, N = 2, 61, 20
    padded = torch.zeros(B, L + 2, C, dtype=dtype)
    padded[:, 1:-1] = torch.randn(B, L, C, dtype=dtype)
    if weights == BF16:
        padded = padded.bfloat16().float()
    weight, bias = torch.randn(N, C, 3).to(weights), torch.randn(N, dtype=dtype)
    x = padded.as_strided((B, L, 3 * C), (padded.stride(0), C, 1))
    found = linear(x, weight.permute(0, 2, 1).reshape(N, 3 * C), bias=bias)
    expected = F.conv1d(padded.mT.double(), weight.double(), bias.double()).mT
    assert relative_error(found, expected) < (2e-6 if dtype == torch.float32 else 1e-14)


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("N", [8, 16, 40])
def test_rows_at_any_stride_and_nothing_beside_them(N: int, accumulate: bool) -> None:
    B, L, K = 3, 30, 24
    wide = torch.randn(B, L, K + 7)
    x, weight = wide[..., 3 : 3 + K], torch.randn(N, K)
    before = torch.randn(B, L, N)
    expected = before + linear(x, weight) if accumulate else linear(x, weight)
    for order in ((0, 1), (1, 0)):  # samples of rows, rows of samples
        sizes = [(B, L)[axis] for axis in order]
        buffer = torch.full((*sizes, N + 5), 7.0).permute(*order, 2)
        out = buffer[..., 2 : 2 + N]
        out.copy_(before)
        ops.packed_linear(x.clone(), ops.pack_linear(weight), out, accumulate=accumulate)
        assert relative_error(out, expected) < 1e-6
        assert (buffer[..., :2] == 7).all()
        assert (buffer[..., 2 + N :] == 7).all()
    both = torch.randn(B, L, K + N)  # x and out as columns of the same rows
    out = both[..., K:]
    out.copy_(before)
    ops.packed_linear(both[..., :K], ops.pack_linear(weight), out, accumulate=accumulate)
    again = before + linear(both[..., :K], weight) if accumulate else linear(both[..., :K], weight)
    assert relative_error(out, again) < 1e-6


def test_the_rows_between_those_of_a_sample_are_left_alone() -> None:
    x, weight = torch.randn(2, 10, 4), torch.randn(6, 4)
    buffer = torch.full((2, 20, 6), 7.0)
    ops.packed_linear(x, ops.pack_linear(weight), buffer[:, ::2])
    assert torch.equal(buffer[:, ::2], linear(x, weight))
    assert (buffer[:, 1::2] == 7).all()


@pytest.mark.parametrize("weights", [torch.float32, BF16], ids=["f32", "bf16"])
def test_infinities_stay_where_they_are(weights: torch.dtype) -> None:
    x = torch.ones(1, 3, 5)
    x[0, 1, 4], x[0, 2, 0] = float("inf"), float("nan")
    found = linear(x, torch.ones(6, 5).to(weights), relu=True)
    assert torch.equal(found[0, 0], torch.full((6,), 5.0))
    assert torch.isinf(found[0, 1]).all()
    assert found[0, 2].isnan().all()


def test_inputs_are_rounded_to_nearest_even_in_bfloat16() -> None:
    """Numbers of every size, halfway between two of bfloat16 and beside it."""
    bits = torch.randint(0x00800000, 0x7F000000, (4000,), dtype=torch.int32)
    bits[::4] = bits[::4] & ~0xFFFF | 0x8000
    bits[1::4] = bits[1::4] & ~0xFFFF | 0x7FFF
    x = bits.view(torch.float32) * torch.where(torch.rand(4000) < 0.5, -1.0, 1.0)
    for K in (1, 3):  # alone in its pair, and first or second in it
        rows = torch.zeros(1, 4000, K)
        for k in range(K):
            rows[0, k::K, k] = x[k::K]
        found = linear(rows, torch.ones(1, K, dtype=BF16))
        assert torch.equal(found.flatten(), x.bfloat16().float())


def test_sums_of_bfloat16_products_are_float32() -> None:
    x, weight = torch.full((1, 2, 4096), 1.0), torch.ones(3, 4096, dtype=BF16)
    x[0, 1] = 1 + 2**-7
    expected = torch.tensor([4096.0, 4128.0]).expand(3, 2).T.unsqueeze(0)
    assert torch.equal(linear(x, weight), expected)


@pytest.mark.one_isa
def test_another_librarys_products_of_bfloat16_go_on_beside_ours() -> None:
    """oneDNN, too, sets the tile unit where there is one, and may remember that it did."""
    x, weight = torch.randn(70, 96), torch.randn(40, 96)
    halves = x.bfloat16(), weight.bfloat16().t()
    packed, out = ops.pack_linear(weight.bfloat16()), torch.empty(1, 70, 40)
    before, ours = halves[0] @ halves[1], ops.packed_linear(x[None], packed, out).clone()
    for _ in range(3):
        assert torch.equal(halves[0] @ halves[1], before)
        assert torch.equal(ops.packed_linear(x[None], packed, out), ours)


def test_a_packed_weight_is_the_same_in_every_precision_and_holds_zeros_beyond_the_last() -> None:
    weight = torch.randn(20, 3)
    packed = ops.pack_linear(weight.requires_grad_())
    assert packed.shape == (2 * 16 * 3,)
    assert not packed.requires_grad
    assert torch.equal(ops.pack_linear(weight.double()), packed.double())
    panels = packed.reshape(2, 3, 16)
    assert torch.equal(panels[0], weight[:16].T)
    assert torch.equal(panels[1, :, :4], weight[16:].T)
    assert not panels[1, :, 4:].any()
    assert torch.equal(ops.pack_linear(weight.detach().T.contiguous().T), packed)


@pytest.mark.one_isa
def test_a_packed_weight_in_bfloat16_is_of_pairs() -> None:
    weight = torch.randn(20, 3).bfloat16()
    packed = ops.pack_linear(weight)
    assert packed.dtype == torch.int32
    pairs = packed.view(BF16).reshape(2, 2, 16, 2)  # panel, pair, feature, which of the pair
    assert torch.equal(pairs[0, 0, :, 0], weight[:16, 0])
    assert torch.equal(pairs[0, 0, :, 1], weight[:16, 1])
    assert torch.equal(pairs[1, 1, :4, 0], weight[16:, 2])
    assert not pairs[:, 1, :, 1].any()
    assert not pairs[1, :, 4:].any()
    assert torch.equal(ops.pack_linear(weight.T.contiguous().T), packed)


@pytest.mark.one_isa
def test_nothing_in_gives_nothing_or_bias_and_shift() -> None:
    for B, L, K, N in ((0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 4, 0)):
        assert linear(torch.ones(B, L, K), torch.ones(N, K)).shape == (B, L, N)
    found = linear(torch.ones(2, 3, 0), torch.ones(5, 0), bias=torch.ones(5))
    assert torch.equal(found, torch.ones(2, 3, 5))


@pytest.mark.one_isa
def test_autograd_learns_of_the_change_and_no_gradient_is_promised() -> None:
    x, packed, out = torch.randn(1, 2, 3), ops.pack_linear(torch.randn(4, 3)), torch.ones(1, 2, 4)
    leaf = torch.ones(1, 2, 4, requires_grad=True)
    product = leaf * out
    ops.packed_linear(x, packed, out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()
    for name in ("x", "packed", "bias"):
        given = {"x": x, "packed": packed, "bias": torch.ones(4)}
        given[name] = given[name].clone().requires_grad_()
        with pytest.raises(RuntimeError, match=r"packed_linear: made for inference.*no_grad"):
            ops.packed_linear(**given, out=out)
        with torch.no_grad():
            assert ops.packed_linear(**given, out=out) is out
    with torch.inference_mode():
        assert torch.isfinite(linear(x, torch.ones(4, 3))).all()


def given(**change: Any) -> dict[str, Any]:
    return {
        "x": torch.ones(2, 3, 4),
        "packed": ops.pack_linear(torch.ones(5, 4)),
        "out": torch.ones(2, 3, 5),
        **change,
    }


@pytest.mark.one_isa
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.ones(3, 4)}, r"x must have shape \(B, L, features\), got \(3, 4\)"),
        ({"x": torch.ones(2, 3, 4).half()}, "x must be float32 or float64, got float16"),
        ({"out": torch.ones(2, 4, 5)}, r"out must have shape \(B, L, N\), got \(2, 4, 5\)"),
        ({"out": torch.ones(2, 3, 5).double()}, "out must be float32, got float64"),
        ({"out": torch.ones(2, 3, 17)}, r"weight \(17, 4\).* = \(128,\), got \(64,\)"),
        ({"packed": torch.ones(5, 4)}, r"pack_linear of a weight \(5, 4\).*got \(5, 4\)"),
        ({"packed": torch.ones(64).double()}, "packed must be float32 or int32, got float64"),
        ({"packed": ops.pack_linear(torch.ones(5, 5).bfloat16())}, r"= \(32,\), got \(48,\)"),
        (
            {
                "x": torch.ones(2, 3, 4).double(),
                "out": torch.ones(2, 3, 5).double(),
                "packed": ops.pack_linear(torch.ones(5, 4).bfloat16()),
            },
            "packed must be float64, got int32",
        ),
        ({"packed": torch.ones(64, device="meta")}, "packed must be on cpu, got meta"),
        ({"bias": torch.ones(4)}, r"bias must have shape \(N,\) = \(5,\), got \(4,\)"),
        ({"bias": torch.ones(5).double()}, "bias must be float32, got float64"),
        ({"shift": torch.ones(3, 5)}, r"shift must have shape \(B\|1, N\) = \(2, 5\), got \(3"),
        ({"shift": torch.ones(1, 4)}, r"shift must have shape \(B\|1, N\) = \(1, 5\), got \(1, 4"),
    ],
)
def test_wrong_arguments_name_what_was_expected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ops.packed_linear(**given(**change))


@pytest.mark.one_isa
@pytest.mark.parametrize("name", ["x", "packed", "out", "bias", "shift"])
def test_what_is_no_tensor_is_a_type_error(name: str) -> None:
    with pytest.raises(TypeError, match=f"packed_linear: {name} must be a tensor, got list"):
        ops.packed_linear(**given(**{name: [1.0]}))


@pytest.mark.one_isa
def test_outputs_that_cannot_be_written_row_by_row_are_refused() -> None:
    buffer = torch.zeros(200)
    for out, message in (
        (torch.ones(2, 3, 10)[..., ::2], "out must have a dense last axis, got strides"),
        (torch.ones(2, 1, 5).expand(2, 3, 5), "out must not overlap itself"),
        (torch.ones(1, 3, 5).expand(2, 3, 5), "out must not overlap itself"),
        (buffer.as_strided((2, 3, 5), (20, 4, 1)), "out must not overlap itself"),
        (buffer.as_strided((2, 3, 5), (7, 10, 1)), "out must not overlap itself"),
    ):
        with pytest.raises(RuntimeError, match=message):
            ops.packed_linear(**given(out=out))
    x = buffer.as_strided((2, 3, 4), (12, 4, 1))
    for offset in (0, 23):
        out = buffer.as_strided((2, 3, 5), (15, 5, 1), offset)
        with pytest.raises(RuntimeError, match="out must not share memory with x"):
            ops.packed_linear(**given(x=x, out=out))
    ops.packed_linear(**given(x=x, out=buffer.as_strided((2, 3, 5), (15, 5, 1), 24)))


@pytest.mark.one_isa
@pytest.mark.parametrize("weight", [torch.ones(3), torch.ones(3, 4).half(), [1.0]])
def test_weights_that_cannot_be_packed_are_named(weight: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="pack_linear: weight must"):
        ops.pack_linear(weight)

# SPDX-License-Identifier: MIT
"""Rows of the sampling engine's ops at the sizes of SSSD-ECG, and the torch calls they stand for.

A product goes through several weights in turn, so that each is as cold as in a model whose weights
exceed every cache: a benchmark that repeats one weight flatters whoever reads it slowly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ecgcore import ops
from ecgcore.testing.cases import PackedConvCase, PackedLinearCase, cases
from measure import Row, Variant

MULTIPLY_ADDS = 4e9
"""Of one round of a row, about: so many weights take turns, four at least."""


def _in_turn(product: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """The result of the last of the products with every weight."""

    def run(x: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
        out = x
        for weight in weights:
            out = product(x, weight, bias)
        return out

    return run


def _packed_in_turn(product: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """The same, of packed weights; ``weights`` are what the truth is made of."""

    def run(x: Tensor, weights: Tensor, packed: Tensor, bias: Tensor) -> Tensor:
        return _in_turn(product)(x, packed, bias)

    return run


def _turns(multiply_adds: int) -> int:
    return max(4, min(32, round(MULTIPLY_ADDS / multiply_adds)))


def product_rows(device: str) -> Iterable[Row]:
    """Against torch's product (MKL; oneDNN in bfloat16) and its convolution of channels-last images
    (oneDNN). In bfloat16 torch reads and writes that, ``packed_linear`` float32."""
    if device != "cpu":
        return
    for case in cases("packed_linear", "bench"):
        assert isinstance(case, PackedLinearCase)
        dtype = torch.bfloat16 if case.rounded else torch.float32
        B, L, K, N = case.B, case.L, case.K, case.N
        count = _turns(B * L * K * N)
        rows = torch.randn(B, L, K)
        weights = (torch.randn(count, K, N) / math.sqrt(K)).to(dtype)
        packed = torch.stack([ops.pack_linear(w.T) for w in weights])
        kernels = weights.mT.contiguous()[..., None, None]  # (N, K, 1, 1) each, channels last
        image, bias, out = rows.mT.unsqueeze(2).to(dtype), torch.randn(N), torch.empty(B, L, N)

        def own(x: Tensor, weight: Tensor, bias: Tensor, out: Tensor = out) -> Tensor:
            return ops.packed_linear(x, weight, out, bias=bias)

        def unpacked(x: Tensor, weights: Tensor, bias: Tensor, N: int = N) -> Tensor:
            out = x.new_empty(*x.shape[:2], N)
            return ops.reference.packed_linear(x, weights[-1], out, bias=bias)

        def convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            return F.conv2d(x, weight, bias).squeeze(2).mT

        def last_convolution(x: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
            return F.conv2d(x, weights[-1], bias).squeeze(2).mT

        given = {"bias": bias}
        variants = [
            Variant("ecgcore", _in_turn(own), {"x": rows, "weights": packed, **given}, unpacked),
            Variant(
                "oneDNN conv2d",
                _in_turn(convolution),
                {"x": image, "weights": kernels, "bias": bias.to(dtype)},
                last_convolution,
            ),
        ]
        product = torch.empty(B * L, N, dtype=dtype)

        def mm(x: Tensor, weight: Tensor, bias: Tensor, product: Tensor = product) -> Tensor:
            return torch.addmm(bias, x.flatten(0, 1), weight, out=product).unflatten(0, x.shape[:2])

        def last_product(x: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
            return F.linear(x, weights[-1].T, bias)

        theirs = {"x": rows.to(dtype), "weights": weights, "bias": bias.to(dtype)}
        variants.append(Variant("torch addmm", _in_turn(mm), theirs, last_product))
        yield Row(
            "packed_linear",
            f"B={B} L={L} K={K} N={N} {case.note}" + (" bf16" if case.rounded else ""),
            f"{count} weights",
            variants,
        )


def convolution_rows(device: str) -> Iterable[Row]:
    """Against the plain product with overlapping rows, which does every multiplication, and torch's
    convolutions (oneDNN): of channels-last images, and of signals that lie channel by channel."""
    if device != "cpu":
        return

    def last(x: Tensor, weights: Tensor, bias: Tensor, **_: Tensor) -> Tensor:
        return F.conv1d(x.mT, weights[-1], bias).mT

    for case in cases("packed_conv", "bench"):
        assert isinstance(case, PackedConvCase)
        dtype = torch.bfloat16 if case.rounded else torch.float32
        B, L, C, N = case.B, case.L, case.C, case.N
        count = _turns(3 * B * L * C * N)
        x, bias, out = torch.randn(B, L + 2, C), torch.randn(N), torch.empty(B, L, N)
        weights = torch.randn(count, N, C, 3) / math.sqrt(3 * C)
        points = torch.stack([ops.pack_conv(w, dtype) for w in weights])
        folded = [ops.pack_linear(w.permute(0, 2, 1).flatten(1).to(dtype)) for w in weights]

        def own(x: Tensor, packed: Tensor, bias: Tensor, out: Tensor = out) -> Tensor:
            return ops.packed_conv(x, packed, out, bias=bias)

        def plain(x: Tensor, packed: Tensor, bias: Tensor, out: Tensor = out) -> Tensor:
            (B, rows, C), (batch, row, _) = x.shape, x.stride()
            neighbours = x.as_strided((B, rows - 2, 3 * C), (batch, row, 1))
            return ops.packed_linear(neighbours, packed, out, bias=bias)

        def image(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            return F.conv2d(x.mT.unsqueeze(2), weight.unsqueeze(2), bias).squeeze(2).mT

        def signal(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            return F.conv1d(x.mT, weight, bias).mT

        given = {"x": x, "weights": weights, "bias": bias}
        theirs = {name: value.to(dtype) for name, value in given.items()}
        last_axis_first = {**theirs, "x": theirs["x"].mT.contiguous().mT}
        theirs["weights"] = theirs["weights"].mT.contiguous().mT
        variants = [
            Variant("ecgcore", _packed_in_turn(own), {**given, "packed": points}, last),
            Variant(
                "packed_linear",
                _packed_in_turn(plain),
                {**given, "packed": torch.stack(folded)},
                last,
            ),
            Variant("oneDNN conv2d", _in_turn(image), theirs, last),
            Variant("oneDNN conv1d", _in_turn(signal), last_axis_first, last),
        ]
        yield Row("packed_conv", str(case), f"{count} weights", variants)


def layer_norm_calls(y: Tensor, out: Tensor, **options: Any) -> Tensor:
    """The same in torch's calls, result by result."""
    n = F.layer_norm(
        y + options["residual"], y.shape[2:], options["weight"], options["bias"], options["eps"]
    )
    if options["shift"] is not None:
        n = n + options["shift"].unsqueeze(1)
    if options["gate"]:
        a, b = n.chunk(2, -1)
        n = torch.tanh(a) * torch.sigmoid(b)
    return n


def norm_rows(device: str) -> Iterable[Row]:
    for case in cases("add_layer_norm", "bench"):
        inputs = case.inputs(torch.float32, device)
        truth = ops.reference.add_layer_norm
        variants = [
            Variant("ecgcore", ops.add_layer_norm, inputs, truth),
            Variant("torch calls", layer_norm_calls, inputs, truth),
        ]
        yield Row("add_layer_norm", str(case), "forward", variants)

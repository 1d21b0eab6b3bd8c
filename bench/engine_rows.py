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
from ecgcore.testing.cases import PackedLinearCase, cases
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


def product_rows(device: str) -> Iterable[Row]:
    """Against torch's product (MKL; oneDNN in bfloat16) and its convolution of channels-last images
    (oneDNN), and, for the width of 3, against the convolution alone: nobody else multiplies
    overlapping rows. In bfloat16 torch reads and writes that, ``packed_linear`` float32."""
    if device != "cpu":
        return
    for case in cases("packed_linear", "bench"):
        assert isinstance(case, PackedLinearCase)
        dtype = torch.bfloat16 if case.rounded else torch.float32
        taps = 3 if "width 3" in case.note else 1
        B, L, K, N, C = case.B, case.L, case.K, case.N, case.K // taps
        count = max(4, min(32, round(MULTIPLY_ADDS / (B * L * K * N))))
        padded = torch.randn(B, L + taps - 1, C)
        rows = padded.as_strided((B, L, K), (padded.stride(0), C, 1))
        weights = (torch.randn(count, K, N) / math.sqrt(K)).to(dtype)
        packed = torch.stack([ops.pack_linear(w.T) for w in weights])
        # (N, C, 1, taps) for each weight, channels last.
        kernels = weights.mT.reshape(count, N, 1, taps, C).permute(0, 1, 4, 2, 3)
        image, bias, out = padded.mT.unsqueeze(2).to(dtype), torch.randn(N), torch.empty(B, L, N)

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
        if taps == 1:
            product = torch.empty(B * L, N, dtype=dtype)

            def mm(x: Tensor, weight: Tensor, bias: Tensor, product: Tensor = product) -> Tensor:
                return torch.addmm(bias, x.flatten(0, 1), weight, out=product).unflatten(
                    0, x.shape[:2]
                )

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

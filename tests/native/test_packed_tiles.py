# SPDX-License-Identifier: MIT
"""``packed_linear`` as it is compiled for AMX, on an emulated tile unit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ecgcore import _C, _native, ops

BF16 = torch.bfloat16
SIZES = [
    (1, 1, 1),
    (16, 32, 32),
    (33, 31, 17),
    (15, 96, 48),
    (47, 65, 33),
    (100, 130, 20),
    (200, 8, 12),
]
"""Rows, ``K`` and ``N``: whole tiles, what is left of them, more rows than go together."""


def given(L: int, K: int, N: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(L * K + N)
    return (
        torch.randn(L, K, generator=draw),
        torch.randn(N, K, generator=draw).to(BF16),
        torch.randn(N, generator=draw),
        torch.randn(L, N, generator=draw),
    )


def emulated(
    x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor, relu: bool, accumulate: bool
) -> Tensor:
    """On rows with not-a-number behind them, which must stay there and nowhere else."""
    (_, K), N = x.shape, weight.shape[0]
    x, out = (torch.nn.functional.pad(rows, (0, 3), value=torch.nan) for rows in (x, out))
    packed = ops.pack_linear(weight).numpy()
    given_bias = None if bias is None else bias.numpy()
    found = torch.from_numpy(
        _C.hooks.packed_tiles(x.numpy(), K, packed, N, given_bias, out.numpy(), relu, accumulate)
    )
    assert found[:, N:].isnan().all()
    return found[:, :N]


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("L", "K", "N"), SIZES)
def test_products(L: int, K: int, N: int, relu: bool, accumulate: bool) -> None:
    x, weight, bias, out = given(L, K, N)
    found = emulated(x, weight, bias, out, relu, accumulate)
    want = x.to(BF16).double() @ weight.double().T + bias.double()
    want = want.relu() if relu else want
    want = want + out.double() if accumulate else want
    assert (found - want).abs().max() <= 1e-6 * K**0.5 * want.abs().max()


def test_without_bias() -> None:
    x, weight, _, out = given(20, 40, 24)
    found = emulated(x, weight, None, out, False, False)
    want = x.to(BF16).double() @ weight.double().T
    assert (found - want).abs().max() <= 1e-5


def test_a_row_has_the_same_bits_alone_and_among_others() -> None:
    x, weight, bias, out = given(130, 70, 40)
    together = emulated(x, weight, bias, out, False, False)
    for first, last in ((0, 1), (5, 22), (31, 130), (129, 130)):
        part = emulated(x[first:last], weight, bias, out[first:last], False, False)
        assert torch.equal(part, together[first:last])


def test_the_unit_agrees_with_its_emulation() -> None:
    """Where there is one; elsewhere the kernel in use does, to rounding."""
    for L, K, N in SIZES:
        x, weight, bias, out = given(L, K, N)
        want = emulated(x, weight, bias, out, False, False)
        packed, found = ops.pack_linear(weight), torch.empty(1, L, N)
        ops.packed_linear(x[None], packed, found, bias=bias)
        if _native.cpu_isa() == "amx_bf16":
            np.testing.assert_array_equal(found[0].numpy(), want.numpy())
        torch.testing.assert_close(found[0], want, rtol=1e-5, atol=1e-5)

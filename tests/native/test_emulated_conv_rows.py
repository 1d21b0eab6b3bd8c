# SPDX-License-Identifier: MIT
"""The block programs of the convolution on rows and of counter-based noise, on the emulator."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ecgcore import _C
from ecgcore.ops import reference
from emulation import assert_close, conv_inputs, exact_inputs, in_every_order

# (batch, channels, features, length, n): two features a pair, one pair or four a block; one stage
# to five; tiles that end with a lone feature, and with pairs that have none.
SIZES = [
    (1, 1, 1, 1, 2),
    (2, 1, 2, 3, 6),
    (1, 2, 3, 5, 10),
    (3, 2, 7, 7, 28),
    (2, 1, 8, 60, 120),
    (1, 3, 9, 441, 882),
    (1, 1, 5, 1000, 2000),
    (2, 1, 2, 1000, 2048),
]


def inputs(
    sizes: tuple[int, int, int, int, int], dtype: str, skip: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """As :func:`emulation.conv_inputs`, signals as rows of features."""
    u, spectrum, D = conv_inputs(np.random.default_rng(sizes[-1]), sizes, dtype, skip)
    return np.ascontiguousarray(u.transpose(0, 2, 1)), spectrum, D


def expected(u: np.ndarray, spectrum: np.ndarray, D: np.ndarray | None, gelu: bool) -> torch.Tensor:
    arrays = {"u": u, "spectrum": spectrum} | ({} if D is None else {"D": D})
    given = exact_inputs(arrays)
    y = reference.s4_conv(
        given["u"].mT, given["spectrum"], given.get("D"), activation="gelu" if gelu else None
    )
    return y.permute(0, 3, 1, 2).flatten(2)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", SIZES)
def test_s4_conv_rows(sizes: tuple[int, int, int, int, int], dtype: str, wide: bool) -> None:
    gelu = sizes[-1] % 3 != 0
    u, spectrum, D = inputs(sizes, dtype, skip=gelu)
    (table,) = in_every_order(_C.emulate.s4_conv_table, spectrum, D)
    (y,) = in_every_order(_C.emulate.s4_conv_rows, u, table, gelu, wide, dtype)
    assert_close(y, expected(u, spectrum, D, gelu), dtype)


def test_the_emulated_table_is_the_references() -> None:
    _, spectrum, D = inputs((1, 2, 5, 10, 20), "float64")
    (table,) = in_every_order(_C.emulate.s4_conv_table, spectrum, D)
    spectrum.imag[..., [0, -1]] = 0
    want = reference.s4_conv_table(torch.from_numpy(spectrum), torch.from_numpy(D))
    np.testing.assert_array_equal(table, want.numpy())


# Rows whose points do not fit into shared memory.
@pytest.mark.parametrize(("dtype", "length"), [("float32", 6000), ("float64", 3000)])
def test_s4_conv_rows_of_long_rows(dtype: str, length: int) -> None:
    u, spectrum, D = inputs((1, 1, 3, length, 2 * length), dtype)
    (table,) = in_every_order(_C.emulate.s4_conv_table, spectrum, D)
    (y,) = in_every_order(_C.emulate.s4_conv_rows, u, table, True, False, dtype)
    assert_close(y, expected(u, spectrum, D, gelu=True), dtype)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(("dtype", "spacing"), [("float16", 2.0**-11), ("bfloat16", 2.0**-8)])
def test_s4_conv_rows_of_half_precision_signals(dtype: str, spacing: float, wide: bool) -> None:
    u, spectrum, D = inputs((2, 1, 3, 30, 60), dtype)
    (table,) = in_every_order(_C.emulate.s4_conv_table, spectrum, D)
    (y,) = in_every_order(_C.emulate.s4_conv_rows, u, table, False, wide, dtype)
    want = expected(u, spectrum, D, gelu=False).numpy()
    # Computed in float and rounded once, to nearest.
    assert (np.abs(y - want) <= spacing * np.abs(want) + 1e-5).all()


def test_s4_conv_rows_refuses_other_prime_factors() -> None:
    u, spectrum, _ = inputs((1, 1, 1, 11, 22), "float32", skip=False)
    (table,) = in_every_order(_C.emulate.s4_conv_table, spectrum, None)
    with pytest.raises(RuntimeError, match="prime factor above 7"):
        _C.emulate.s4_conv_rows(u, table, False, False, "float32", "forward", 0)


@pytest.mark.parametrize("normal", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("size", [1, 4, 1027])
def test_philox(size: int, dtype: str, normal: bool) -> None:
    records = np.array([0, 7, 2**33 + 5])
    seed, draw = 2**40 + 3, 2**32 - 1
    (found,) = in_every_order(_C.emulate.philox, records, seed, draw, size, normal, dtype)
    out = torch.empty(3, size, dtype=getattr(torch, dtype))
    function = reference.philox_normal if normal else reference.philox_uniform
    function(out, seed=seed, records=torch.from_numpy(records), draw=draw)
    # A rounding of the last bit.
    eps = torch.finfo(out.dtype).eps
    np.testing.assert_allclose(found, out.to(torch.float64).numpy(), rtol=4 * eps, atol=eps)


def test_philox_out_of_range_shows() -> None:
    records = np.array([3, -1])
    (found,) = in_every_order(_C.emulate.philox, records, 1, 0, 5, True, "float32")
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()
    for draw in (-1, 2**32):
        (found,) = in_every_order(_C.emulate.philox, records, 1, draw, 5, False, "float32")
        assert np.isnan(found).all()

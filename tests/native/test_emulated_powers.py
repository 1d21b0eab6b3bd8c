"""The block programs of ``vandermonde``, its transpose and ``diag_kernel`` on the host emulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ecgcore import _C
from ecgcore.ops import reference
from emulation import (
    COMPLEX,
    REAL,
    assert_close,
    complex_normal,
    exact_inputs,
    gradients,
    in_every_order,
)

DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
GROWS = pytest.mark.parametrize("grows", ["none", "some", "all"])
# (heads, rows, modes, length): tiles are 1024 samples in rows of 32, modes go 32 at a time; from
# 16 tiles on a block of the moments takes several.
SIZES = [(1, 1, 1, 1), (2, 3, 5, 33), (1, 2, 33, 1024), (3, 1, 3, 1025), (1, 2, 2, 17 * 1024 + 5)]


def modes_of(rng: np.random.Generator, rows: int, modes: int, length: int, grows: str) -> Any:
    """Decays and growths by up to e^3 over the length; up to 300 radians, because the reference in
    double precision rounds angles too."""
    real = -3 * rng.random((rows, modes)) / length
    if grows == "all":
        real = -real
    elif grows == "some":
        real[:, ::2] *= -1
    return real + 1j * rng.uniform(-3, 3, (rows, modes)) * min(1, 100 / length)


@GROWS
@DTYPES
@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_vandermonde(sizes: tuple[int, int, int, int], pairs: bool, dtype: str, grows: str) -> None:
    heads, rows, modes, length = sizes
    rng = np.random.default_rng(length)
    arrays = {
        "v": complex_normal(rng, heads, rows, modes),
        "log_x": modes_of(rng, rows, modes, length, grows),
    }
    arrays = {k: v.astype(COMPLEX[dtype]) for k, v in arrays.items()}
    exact = exact_inputs(arrays)
    name = "vandermonde" if pairs else "vandermonde_plain"
    options = {"L": length, "conjugate_pairs": pairs}

    (out,) = in_every_order(getattr(_C.emulate, name), *arrays.values(), length)
    expected = reference.vandermonde(**exact, **options)
    assert_close(out, expected, dtype)

    real = rng.standard_normal(expected.shape)
    grad = (real if pairs else real + 1j * rng.standard_normal(real.shape)).astype(out.dtype)
    backward = getattr(_C.emulate, f"{name}_backward")
    got = in_every_order(backward, grad, *arrays.values(), length, [True, True])
    wide = grad.astype(np.float64 if pairs else np.complex128)
    wanted = gradients(reference.vandermonde, exact, wide, **options)
    for one, want in zip(got, wanted, strict=True):
        # Where the length is 1, log_x does not matter.
        assert_close(one, want, dtype, scale=1.0 if length == 1 else None)


@GROWS
@DTYPES
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_vandermonde_transpose(sizes: tuple[int, int, int, int], dtype: str, grows: str) -> None:
    heads, rows, modes, length = sizes
    rng = np.random.default_rng(length)
    arrays = {
        "u": rng.standard_normal((heads, rows, length)).astype(REAL[dtype]),
        "v": complex_normal(rng, heads, rows, modes).astype(COMPLEX[dtype]),
        "log_x": modes_of(rng, rows, modes, length, grows).astype(COMPLEX[dtype]),
    }
    exact = exact_inputs(arrays)
    (out,) = in_every_order(_C.emulate.vandermonde_transpose, *arrays.values())
    expected = reference.vandermonde_transpose(**exact, L=length)
    assert_close(out, expected, dtype)

    grad = complex_normal(rng, heads, rows, modes).astype(COMPLEX[dtype])
    got = in_every_order(
        _C.emulate.vandermonde_transpose_backward, grad, *arrays.values(), [True] * 3
    )
    wide = grad.astype(np.complex128)
    wanted = gradients(reference.vandermonde_transpose, exact, wide, L=length)
    for one, want in zip(got, wanted, strict=True):
        assert_close(one, want, dtype, scale=1.0 if length == 1 else None)


def test_growth_beyond_every_float_is_a_number() -> None:
    v = np.ones((1, 1, 2), np.complex64)
    log_x = np.array([[5.0 + 1j, 300.0 - 2j]], np.complex64)
    (out,) = in_every_order(_C.emulate.vandermonde, v, log_x, 1100)
    assert np.isfinite(out).all()
    grad = np.ones((1, 1, 1100), np.float32)
    for one in in_every_order(_C.emulate.vandermonde_backward, grad, v, log_x, 1100, [True, True]):
        assert not np.isnan(one).any()


# (rows S, channels, features, modes, length)
DIAG_SIZES = [(1, 1, 1, 1, 1), (2, 3, 2, 5, 33), (1, 2, 2, 65, 40), (2, 1, 1, 3, 300)]


def diag_inputs(
    rng: np.random.Generator, sizes: tuple[int, ...], dtype: str, tied: bool, grows: bool
) -> dict[str, np.ndarray]:
    rows, channels, features, modes, length = sizes
    shared = 1 if tied else features
    real = -0.3 - rng.random((shared, modes))
    if grows:
        real[:, ::2] *= -1
    arrays = {
        "A": real + 4j * rng.standard_normal((shared, modes)),
        "B": complex_normal(rng, rows, shared, modes),
        "C": complex_normal(rng, channels, features, modes),
    }
    return {k: v.astype(COMPLEX[dtype]) for k, v in arrays.items()} | {
        "dt": (rng.uniform(1, 4, features) / max(length, 20)).astype(REAL[dtype])
    }


@pytest.mark.parametrize("grows", [False, True])
@DTYPES
@pytest.mark.parametrize("discretization", ["zoh", "bilinear", "dss"])
@pytest.mark.parametrize("sizes", DIAG_SIZES, ids=str)
def test_diag_kernel(sizes: tuple[int, ...], discretization: str, dtype: str, grows: bool) -> None:
    length = sizes[-1]
    rng = np.random.default_rng(length)
    arrays = diag_inputs(rng, sizes, dtype, False, grows)
    exact = exact_inputs(arrays)
    options = {"L": length, "discretization": discretization}
    kind = ["zoh", "bilinear", "dss"].index(discretization)

    (out,) = in_every_order(_C.emulate.diag_kernel, *arrays.values(), length, kind)
    expected = reference.diag_kernel(**exact, **options)
    assert_close(out, expected, dtype)

    grad = rng.standard_normal(expected.shape).astype(REAL[dtype])
    got = in_every_order(
        _C.emulate.diag_kernel_backward, grad, *arrays.values(), length, kind, [True] * 4
    )
    wanted = gradients(reference.diag_kernel, exact, grad.astype(np.float64), **options)
    for one, want in zip(got, wanted, strict=True):
        # Normalised over one sample, the kernel hardly depends on dt.
        assert_close(one, want, dtype, scale=1.0 if length == 1 else None)


def test_diag_kernel_of_tied_features() -> None:
    sizes = (2, 2, 5, 3, 40)
    rng = np.random.default_rng(5)
    arrays = diag_inputs(rng, sizes, "float64", True, False)
    exact = exact_inputs(arrays)
    (out,) = in_every_order(_C.emulate.diag_kernel, *arrays.values(), 40, 0)
    expected = reference.diag_kernel(**exact, L=40)
    assert_close(out, expected, "float64")
    grad = rng.standard_normal(expected.shape)
    got = in_every_order(_C.emulate.diag_kernel_backward, grad, *arrays.values(), 40, 0, [True] * 4)
    wanted = gradients(reference.diag_kernel, exact, grad, L=40)
    for name, one, want in zip(arrays, got, wanted, strict=True):
        summed = one.reshape(-1, 5, 3).sum(1).reshape(want.shape) if name in "AB" else one
        assert_close(summed, want, "float64")


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (3,), (1, 2)])
def test_diag_kernel_computes_only_wanted_gradients(wanted: tuple[int, ...]) -> None:
    sizes = (2, 2, 2, 3, 40)
    rng = np.random.default_rng(6)
    arrays = diag_inputs(rng, sizes, "float64", False, False)
    exact = exact_inputs(arrays)
    grad = rng.standard_normal((2, 2, 2, 40))
    flags = [i in wanted for i in range(4)]
    got = in_every_order(_C.emulate.diag_kernel_backward, grad, *arrays.values(), 40, 1, flags)
    expected = gradients(reference.diag_kernel, exact, grad, L=40, discretization="bilinear")
    for i, (one, want) in enumerate(zip(got, expected, strict=True)):
        if i in wanted:
            assert_close(one, want, "float64")
        else:
            assert np.isnan(one).all()


@pytest.mark.parametrize("sizes", [(0, 2, 3, 5), (2, 0, 3, 5)], ids=str)
def test_vandermonde_of_nothing(sizes: tuple[int, int, int, int]) -> None:
    heads, rows, modes, length = sizes
    v = np.ones((heads, rows, modes), np.complex64)
    log_x = np.zeros((rows, modes), np.complex64)
    (out,) = in_every_order(_C.emulate.vandermonde, v, log_x, length)
    assert out.shape == (heads, rows, length)
    grad = np.ones(out.shape, np.float32)
    for one in in_every_order(
        _C.emulate.vandermonde_backward, grad, v, log_x, length, [True, True]
    ):
        assert (one == 0).all()


def test_the_emulated_numbers_are_torchs_on_the_cpu() -> None:
    """The CPU kernels and the block programs fill their tables differently and agree to
    rounding."""
    rng = np.random.default_rng(7)
    v = complex_normal(rng, 1, 2, 32).astype(np.complex64)
    log_x = modes_of(rng, 2, 32, 3000, "some").astype(np.complex64)
    (emulated,) = in_every_order(_C.emulate.vandermonde, v, log_x, 3000)
    cpu = torch.ops.ecgcore.vandermonde(torch.from_numpy(v), torch.from_numpy(log_x), 3000, True)
    assert_close(emulated, cpu.double(), "float32")

"""The real Fourier transform of floor 1 and the activations fused after it, in both precisions and
at every SIMD width, against numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ecgcore import _C

PRECISIONS = ["float32", "float64"]
WIDTHS = [1, 2, 4, 8, 16]
# Every radix first, last and alone; powers of two; odd halves (the pair is all there is); parts of
# one point; lengths whose parts exceed the first-level cache.
LENGTHS = [2, 4, 6, 8, 10, 14, 16, 18, 20, 28, 32, 42, 50, 64, 70, 98, 100, 126, 128, 210, 250, 256]
LENGTHS += [288, 392, 490, 512, 686, 750, 1000, 1024, 1250, 2000, 2048, 2250, 4096, 5000]


def _close(got: np.ndarray, truth: np.ndarray, precision: str) -> None:
    scale = np.sqrt(np.mean(np.abs(truth) ** 2))
    assert np.max(np.abs(got - truth)) / scale < 30 * np.finfo(precision).eps


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_transform_and_inverse_at_every_length(n: int, precision: str) -> None:
    rows = np.random.default_rng(n).standard_normal((4, n)).astype(precision)
    spectrum = _C.hooks.real_fft(rows, precision=precision, width=4)
    truth = np.fft.rfft(rows.astype(np.longdouble))
    _close(spectrum, truth, precision)
    back = _C.hooks.real_fft_inverse(truth.astype(np.complex128), precision=precision, width=4)
    _close(back, rows.astype(np.float64), precision)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("n", [30, 56, 1000])
def test_transform_at_every_width(n: int, width: int, precision: str) -> None:
    rows = np.random.default_rng(n).standard_normal((width, n)).astype(precision)
    truth = np.fft.rfft(rows.astype(np.longdouble))
    _close(_C.hooks.real_fft(rows, precision=precision, width=width), truth, precision)


def test_inverse_ignores_the_imaginary_parts_of_real_bins() -> None:
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal((2, 20)))
    disturbed = spectrum.copy()
    disturbed[:, [0, -1]] += 3j
    got = _C.hooks.real_fft_inverse(disturbed, precision="float64", width=2)
    np.testing.assert_allclose(got, np.fft.irfft(spectrum, 20), atol=1e-14)


@pytest.mark.parametrize("n", [0, 3, 7, 22, 26])
def test_lengths_without_a_plan_are_errors(n: int) -> None:
    with pytest.raises(ValueError, match=f"no Fourier plan for length {n}"):
        _C.hooks.real_fft(np.zeros((1, n)), precision="float64", width=1)


def _erf(x: np.ndarray) -> np.ndarray:
    return torch.erf(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_gelu_and_its_slope(width: int, precision: str) -> None:
    x = np.linspace(-12, 12, 20001).astype(precision).astype(np.float64)
    phi = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    cdf = (1 + _erf(x / math.sqrt(2))) / 2
    for name, truth in (("gelu", x * cdf), ("gelu_slope", cdf + x * phi)):
        got = _C.hooks.activation(name, x, precision=precision, width=width)
        error = np.abs(got - truth) / np.maximum(1, np.abs(x))
        assert error.max() < 3 * np.finfo(precision).eps, name


@pytest.mark.parametrize("width", [1, 8])
def test_gelu_saturates_exactly_and_passes_what_is_not_a_number(width: int) -> None:
    x = np.array([5.5, 30.0, 1e20, np.inf, -5.8, -30.0, -1e20, 0.0, np.nan])
    got = _C.hooks.activation("gelu", x, precision="float32", width=width)
    np.testing.assert_array_equal(got[:4], x.astype(np.float32)[:4])
    assert np.all(np.abs(got[4:7]) <= 1e-7)
    assert got[7] == 0
    assert np.isnan(got[8])
    slope = _C.hooks.activation("gelu_slope", x, precision="float32", width=width)
    np.testing.assert_allclose(slope[:3], 1, atol=1e-6)
    np.testing.assert_allclose(slope[4:7], 0, atol=1e-6)
    assert slope[7] == 0.5

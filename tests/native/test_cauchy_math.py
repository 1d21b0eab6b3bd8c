"""The Cauchy term of floor 1, in both precisions and at every SIMD width, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from ecgcore import _C


@pytest.mark.parametrize("width", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("pairs", [True, False])
def test_term_and_adjoints_match_extended_precision(
    width: int, precision: str, pairs: bool
) -> None:
    rng = np.random.default_rng(7)
    real = np.float32 if precision == "float32" else np.float64

    def draw(*shape: int) -> np.ndarray:
        x = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
        return x.astype(np.complex64 if real is np.float32 else np.complex128)

    v, w, z, g = draw(), draw(), draw(37), draw(37)
    got = _C.hooks.cauchy_terms(
        complex(v), complex(w), z, g, conjugate_pairs=pairs, precision=precision, width=width
    )
    v, w, z, g = (np.asarray(x, np.clongdouble) for x in (v, w, z, g))
    a, b = 1 / (z - w), 1 / (z - w.conj()) * pairs
    truth = np.stack(
        [
            v * a + v.conj() * b,
            g * a.conj() + g.conj() * b,
            -g * (v * a**2 + v.conj() * b**2).conj(),
            g * (v * a**2).conj() + g.conj() * v.conj() * b**2,
        ]
    )
    scale = np.stack([np.abs(v * a), np.abs(g * a), np.abs(g * v * a**2), np.abs(g * v * a**2)])
    scale = scale + np.abs(truth)
    assert np.max(np.abs(got - truth) / scale) < 12 * np.finfo(real).eps


def test_unknown_width_is_an_error() -> None:
    with pytest.raises(ValueError, match="width must be"):
        _C.hooks.cauchy_terms(
            1, 1j, np.ones(3), np.ones(3), conjugate_pairs=True, precision="float32", width=3
        )

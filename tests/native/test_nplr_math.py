"""The formulas of the S4 spectrum on floor 1, in both precisions and at every SIMD width, against
numpy."""

from __future__ import annotations

import numpy as np
import pytest

from ecgcore import _C

WIDTHS = pytest.mark.parametrize("width", [1, 2, 4, 8, 16])
PRECISIONS = pytest.mark.parametrize("precision", ["float32", "float64"])
X, Y, A, DT = 0.6 - 1.1j, -0.4 + 0.7j, -0.5 + 40.25j, 0.03125  # exact in float32 where it matters


def eps_of(precision: str) -> float:
    return float(np.finfo(precision).eps)


def narrow(value: complex, precision: str) -> complex:
    return complex(np.complex64(value)) if precision == "float32" else value


def run(
    precision: str, width: int, length: int = 100, omega: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    count = length // 2 + 1 if omega is None else len(omega)
    g = rng.standard_normal(count) + 1j * rng.standard_normal(count)
    g = g.astype(np.complex64).astype(np.complex128)
    nodes = np.empty(0, np.complex128) if omega is None else omega
    found = _C.hooks.nplr_terms(X, Y, A, DT, length, nodes, g, precision, width)
    return found["nodes"], found["terms"], g


@WIDTHS
@PRECISIONS
@pytest.mark.parametrize("length", [1, 2, 37, 100])
def test_terms_match_the_definition_at_every_node(width: int, precision: str, length: int) -> None:
    angle = 8 * np.arctan(np.longdouble(1)) * np.arange(length // 2 + 1) / length
    omega = np.cos(angle) - 1j * np.sin(angle)
    _, (_, term, *_), _ = run(precision, width, length)
    v = narrow(X, precision) * narrow(Y, precision)
    s, d = 1 + omega, 2 * (1 - omega)
    truth = 2 * DT * (v / (d - s * DT * A) + np.conj(v) / (d - s * DT * np.conj(A)))
    # In double the nodes are merely rounded, which a resonance magnifies by Im A / Re A.
    rounding = eps_of(precision) * (1 if precision == "float32" else abs(A.imag / A.real))
    assert np.max(np.abs(term - truth)) < 12 * rounding * np.max(np.abs(truth))


@WIDTHS
@PRECISIONS
def test_nodes_off_the_unit_circle_are_used_as_they_are(width: int, precision: str) -> None:
    rng = np.random.default_rng(5)
    omega = np.exp(-1j * np.pi * rng.random(21)) * (1 + 0.3 * rng.standard_normal(21))
    omega[0], omega[1] = -1.0, 1.0
    _, (_, term, *_), _ = run(precision, width, omega=omega)
    v = narrow(X, precision) * narrow(Y, precision)
    s, d = 1 + omega, 2 * (1 - omega)
    truth = 2 * DT * (v / (d - s * DT * A) + np.conj(v) / (d - s * DT * np.conj(A)))
    assert np.max(np.abs(term - truth)) < 12 * eps_of(precision) * np.max(np.abs(truth))


@WIDTHS
@PRECISIONS
def test_pair_and_adjoints_match_extended_precision(width: int, precision: str) -> None:
    (c, r, y), (pair, _, modes, along, dq, dp), g = run(precision, width)
    a, b = -DT * A.real, DT * A.imag
    delta = r + 1j * y.astype(np.clongdouble)
    D = 1 / ((delta + c * a) ** 2 + (c * b) ** 2)
    h = D**2 * np.conj(g)
    truth = np.stack(
        [
            D,
            -np.real(h * 2 * c * (delta + c * a)) - 1j * np.real(h) * c**2,
            h * (delta + c * a),
            c * g,
            np.conj(delta) * g,
        ]
    )
    found = np.stack([pair, modes, along, dq, dp])
    scale = np.abs(truth).copy()
    # Real parts are taken of products: what they lose is relative to the products.
    scale[1] += np.abs(h * c * (delta + c * a)) + np.abs(h) * c**2
    assert np.all(np.abs(found - truth) <= 60 * eps_of(precision) * scale)


def test_float32_nodes_keep_the_ratio_that_decides_resonances() -> None:
    length = 1000
    (c, _, y), _, _ = run("float32", 8, length)
    inner = slice(1, length // 2)
    angle = np.pi * np.arange(length // 2 + 1) / length
    error = np.abs(y[inner] / c[inner] / (2 * np.tan(angle[inner])) - 1)
    # Rounding c and y on their own leaves up to 1e-7, 3e-8 in the median.
    assert error.max() < 6e-8
    assert np.quantile(error, 0.95) < 1e-8
    assert np.median(error) < 2e-9
    assert c[-1] == 0.0
    assert y[-1] == 2.0


@WIDTHS
@PRECISIONS
@pytest.mark.parametrize("rank", [1, 2, 3, 5])
@pytest.mark.parametrize("column", [False, True])
def test_small_systems_are_solved_as_well_as_by_elimination(
    width: int, precision: str, rank: int, column: bool
) -> None:
    rng = np.random.default_rng(rank)
    core = rng.standard_normal((rank, rank, 19)) + 1j * rng.standard_normal((rank, rank, 19))
    if rank > 1:
        core[0, 0, ::2] = -1 / 0.5  # a vanishing first pivot in every other lane
        # In the other lanes the last row of I + core/2 nearly repeats the first.
        core[-1, :, 1::2] = core[0, :, 1::2] * (1 + 1e-2 * rng.standard_normal((rank, 9)))
        core[-1, 0, 1::2] += 2
        core[-1, -1, 1::2] -= 2
    core = core.astype(np.complex64).astype(np.complex128)
    matrix = np.eye(rank) + 0.5 * np.moveaxis(core, 2, 0)
    assert rank == 1 or np.linalg.cond(matrix).max() > 2e3
    left = matrix if column else np.swapaxes(matrix, 1, 2)
    # Answers of size 1, far below those that a right-hand side of this size may have.
    answer = rng.standard_normal((19, rank)) + 1j * rng.standard_normal((19, rank))
    given = 2 * (left @ answer[..., None])[..., 0].T
    given = given.astype(np.complex64).astype(np.complex128)
    found = _C.hooks.nplr_solve(0.5, core, given, column, precision, width).T
    missed = (left @ found[..., None])[..., 0] - 0.5 * given.T
    # A product with the rounded inverse misses by 20 to 500 of these.
    norms = np.linalg.norm(matrix, axis=(1, 2)) * np.linalg.norm(found, axis=1)
    assert np.all(np.linalg.norm(missed, axis=1) <= 2 * eps_of(precision) * norms)


def test_arguments_that_do_not_fit_are_errors() -> None:
    with pytest.raises(ValueError, match="g must have one value a node"):
        _C.hooks.nplr_terms(X, Y, A, DT, 8, np.empty(0, complex), np.ones(3), "float32", 8)
    with pytest.raises(ValueError, match="length must be at least 1"):
        _C.hooks.nplr_terms(X, Y, A, DT, 0, np.empty(0, complex), np.ones(1), "float32", 8)
    core = np.ones((2, 2, 3), complex)
    with pytest.raises(ValueError, match=r"core must be \(rank, rank, nodes\)"):
        _C.hooks.nplr_solve(1, core[:1], core[0], False, "float32", 8)
    with pytest.raises(ValueError, match=r"given must be \(rank, nodes\)"):
        _C.hooks.nplr_solve(1, core, core[0, :1], False, "float32", 8)

"""The CUDA kernels' block programs on the host emulator: indexing, tiles, tails and reductions.

The bodies are the ones nvcc compiles. Results must match the reference and be the same bits
whatever the order of threads and blocks; shared memory, registers and outputs start as NaN, so what
nobody wrote shows.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ecgcore import _C
from ecgcore.ops import reference
from emulation import (
    COMPLEX,
    ORDERS,
    REAL,
    assert_close,
    complex_normal,
    conv_inputs,
    exact_inputs,
    gradients,
    in_every_order,
)


@pytest.mark.parametrize("order", ["forward", "reverse", "random"])
def test_emulator_runs_a_correct_program(order: str) -> None:
    assert _C.emulate.faulty("none", order, 3).tolist() == list(range(32))


def test_emulator_shows_a_race() -> None:
    runs = {tuple(_C.emulate.faulty("race", order, seed)) for order, seed in ORDERS}
    assert len(runs) > 1


def test_emulator_shows_unwritten_memory() -> None:
    assert np.isnan(_C.emulate.faulty("unwritten", "forward", 0)[7])


@pytest.mark.no_sanitizer  # which sees it first, and ends the process
def test_emulator_shows_an_overrun() -> None:
    with pytest.raises(RuntimeError, match="past the end of a shared array of 256 bytes"):
        _C.emulate.faulty("overrun", "forward", 0)


def test_emulator_checks_the_declared_shared_memory() -> None:
    with pytest.raises(RuntimeError, match=r"shared_bytes\(\) says 272, the body takes 256"):
        _C.emulate.faulty("size", "forward", 0)


# Tiles are 128 nodes, 64 or 32 modes; dz goes over chunks of about 16 rows.
CAUCHY_SIZES = [(1, 1, 1), (3, 5, 7), (2, 64, 128), (2, 65, 129), (35, 33, 130), (1, 130, 257)]


@pytest.mark.parametrize("conjugate_pairs", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rows", "modes", "nodes"), CAUCHY_SIZES)
def test_cauchy(rows: int, modes: int, nodes: int, dtype: str, conjugate_pairs: bool) -> None:
    rng = np.random.default_rng(rows * 1000 + nodes)
    arrays = {
        "v": complex_normal(rng, rows, modes),
        "z": 1j * np.linspace(0.1, 3.0, nodes),
        "w": -0.5 - rng.random((rows, modes)) + 1j * rng.standard_normal((rows, modes)),
    }
    arrays = {k: v.astype(COMPLEX[dtype]) for k, v in arrays.items()}
    grad = complex_normal(rng, rows, nodes).astype(COMPLEX[dtype])
    exact = {k: torch.from_numpy(v.astype(np.complex128)) for k, v in arrays.items()}

    (out,) = in_every_order(_C.emulate.cauchy, *arrays.values(), conjugate_pairs)
    assert_close(out, reference.cauchy(**exact, conjugate_pairs=conjugate_pairs), dtype)

    got = in_every_order(_C.emulate.cauchy_backward, grad, *arrays.values(), conjugate_pairs)
    expected = gradients(
        reference.cauchy, exact, grad.astype(np.complex128), conjugate_pairs=conjugate_pairs
    )
    for one, want in zip(got, expected, strict=True):
        assert_close(one, want, dtype)


@pytest.mark.parametrize(("rows", "modes", "nodes"), [(0, 3, 5), (4, 3, 0)])
def test_cauchy_of_nothing(rows: int, modes: int, nodes: int) -> None:
    v, z, w, grad = (
        np.ones(shape, np.complex64)
        for shape in ((rows, modes), (nodes,), (rows, modes), (rows, nodes))
    )
    (out,) = in_every_order(_C.emulate.cauchy, v, z, w, True)
    assert out.shape == (rows, nodes)
    for gradient in in_every_order(_C.emulate.cauchy_backward, grad, v, z, w, True):
        assert (gradient == 0).all()


# (features, modes, rows, channels, rank, length): tiles are 128 nodes, 32 modes, 6 numerators (4
# where only C is wanted); one row, rank 1 and up to two channels have a kernel of their own.
NPLR_SIZES = [
    (1, 1, 1, 1, 1, 1),
    (3, 5, 1, 1, 1, 9),
    (2, 33, 1, 2, 1, 258),
    (2, 35, 2, 1, 1, 17),
    (2, 3, 1, 3, 2, 260),
    (1, 3, 2, 2, 3, 7),
    (2, 3, 3, 1, 4, 8),
    (2, 3, 0, 2, 2, 6),
]


def nplr_inputs(
    rng: np.random.Generator,
    sizes: tuple[int, int, int, int, int, int],
    dtype: str,
    tied: bool = False,
) -> dict[str, np.ndarray]:
    features, modes, rows, channels, rank, _ = sizes
    shared = 1 if tied else features
    decay = 0.3 + rng.random((shared, modes))
    arrays = {
        "A": -decay + 1j * 4 * rng.standard_normal((shared, modes)),
        "B": complex_normal(rng, rows, shared, modes),
        "C": complex_normal(rng, channels, features, modes),
        "P": complex_normal(rng, rank, shared, modes) / modes,
    }
    # Close to conj(P): the state matrix is stable, and the rank x rank system well conditioned.
    arrays["Q"] = arrays["P"].conj() * (1 + 0.1 * complex_normal(rng, rank, shared, modes))
    return {k: v.astype(COMPLEX[dtype]) for k, v in arrays.items()} | {
        "dt": (0.05 + 0.2 * rng.random(features)).astype(REAL[dtype])
    }


def rounded_nodes(length: int) -> np.ndarray:
    """Nodes as a checkpoint may store them: up to 5e-6 off the unit circle."""
    exact = np.exp(-2j * np.pi * np.arange(length // 2 + 1) / length)
    return (exact * (1 + 5e-6)).astype(np.complex64)


@pytest.mark.parametrize("stored_nodes", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", NPLR_SIZES)
def test_nplr_spectrum(
    sizes: tuple[int, int, int, int, int, int], dtype: str, stored_nodes: bool
) -> None:
    length = sizes[-1]
    rng = np.random.default_rng(length)
    arrays = nplr_inputs(rng, sizes, dtype)
    omega = rounded_nodes(length).astype(COMPLEX[dtype]) if stored_nodes else None
    given = None if omega is None else torch.from_numpy(omega.astype(np.complex128))
    inputs = exact_inputs(arrays)

    (out,) = in_every_order(_C.emulate.nplr_spectrum, *arrays.values(), length, omega)
    expected = reference.nplr_spectrum(**inputs, L=length, omega=given)
    assert_close(out, expected, dtype)

    grad = complex_normal(rng, *expected.shape).astype(COMPLEX[dtype])
    got = in_every_order(
        _C.emulate.nplr_spectrum_backward, grad, *arrays.values(), length, omega, [True] * 6
    )
    wanted = gradients(
        reference.nplr_spectrum, inputs, grad.astype(np.complex128), L=length, omega=given
    )
    for name, one, want in zip(inputs, got, wanted, strict=True):
        # With one node, omega = 1, dt does not matter: its gradient is 0, or nearly so.
        assert_close(one, want, dtype, scale=1.0 if name == "dt" and length == 1 else None)


@pytest.mark.parametrize("sizes", NPLR_SIZES)
def test_nplr_spectrum_where_only_c_trains(sizes: tuple[int, int, int, int, int, int]) -> None:
    length = sizes[-1]
    rng = np.random.default_rng(length)
    arrays = nplr_inputs(rng, sizes, "float32")
    inputs = exact_inputs(arrays)
    features, _, rows, channels, _, _ = sizes
    grad = complex_normal(rng, rows, channels, features, length // 2 + 1).astype(np.complex64)

    got = in_every_order(
        _C.emulate.nplr_spectrum_backward,
        *(grad, *arrays.values(), length, None),
        [False, False, True, False, False, False],
    )
    wanted = gradients(reference.nplr_spectrum, inputs, grad.astype(np.complex128), L=length)
    assert_close(got[2], wanted[2], "float32")
    for i in (0, 1, 3, 4, 5):  # untouched: still the NaN they began as
        assert np.isnan(got[i]).all()


def kernel_bounds(
    sizes: tuple[int, int, int, int, int, int], dtype: str, stored_nodes: bool = False
) -> None:
    """Emulated ``nplr_kernel`` and its gradients against the reference."""
    features, _, rows, channels, _, length = sizes
    rng = np.random.default_rng(length)
    arrays = nplr_inputs(rng, sizes, dtype)
    omega = rounded_nodes(length).astype(COMPLEX[dtype]) if stored_nodes else None
    given = None if omega is None else torch.from_numpy(omega.astype(np.complex128))
    inputs = exact_inputs(arrays)
    (out,) = in_every_order(_C.emulate.nplr_kernel, *arrays.values(), length, omega)
    assert_close(out, reference.nplr_kernel(**inputs, L=length, omega=given), dtype)

    grad = rng.standard_normal((rows, channels, features, length)).astype(REAL[dtype])
    got = in_every_order(
        _C.emulate.nplr_kernel_backward, grad, *arrays.values(), length, omega, [True] * 6
    )
    wanted = gradients(
        reference.nplr_kernel, inputs, grad.astype(np.float64), L=length, omega=given
    )
    # dt's gradient is the sum of terms as large as A's gradient times A/dt, which may cancel.
    terms = (inputs["A"].abs() * wanted[0].abs()).sum(-1) / inputs["dt"]
    for name, one, want in zip(inputs, got, wanted, strict=True):
        assert_close(one, want, dtype, scale=float(terms.max()) if name == "dt" else None)


# Rows go through the transform in pairs, odd lengths in twice as many points; 128 threads share a
# stage; one stage (1, 2, 4) to five.
NPLR_KERNEL_SIZES = [
    (1, 1, 1, 1, 1, 1),
    (3, 5, 1, 1, 1, 2),
    (2, 3, 1, 2, 1, 4),
    (3, 5, 1, 1, 1, 9),
    (1, 3, 2, 2, 3, 7),
    (2, 3, 1, 3, 2, 280),
    (5, 3, 1, 1, 1, 375),
    (1, 33, 1, 2, 1, 1000),
]


@pytest.mark.parametrize("stored_nodes", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", NPLR_KERNEL_SIZES)
def test_nplr_kernel(
    sizes: tuple[int, int, int, int, int, int], dtype: str, stored_nodes: bool
) -> None:
    kernel_bounds(sizes, dtype, stored_nodes)


# Rows whose points do not fit into shared memory, the last with twice as many points as samples.
@pytest.mark.parametrize(("dtype", "length"), [("float32", 12000), ("float64", 3125)])
def test_nplr_kernel_of_long_rows(dtype: str, length: int) -> None:
    kernel_bounds((3, 1, 1, 1, 1, length), dtype)


def test_nplr_kernel_where_only_c_trains() -> None:
    sizes = (3, 5, 1, 2, 1, 40)
    rng = np.random.default_rng(40)
    arrays = nplr_inputs(rng, sizes, "float64")
    inputs = exact_inputs(arrays)
    grad = rng.standard_normal((1, 2, 3, 40))
    got = in_every_order(
        _C.emulate.nplr_kernel_backward,
        *(grad, *arrays.values(), 40, None),
        [False, False, True, False, False, False],
    )
    wanted = gradients(reference.nplr_kernel, inputs, grad, L=40)
    assert_close(got[2], wanted[2], "float64")
    for i in (0, 1, 3, 4, 5):  # untouched: still the NaN they began as
        assert np.isnan(got[i]).all()


def test_nplr_kernel_refuses_other_prime_factors() -> None:
    arrays = nplr_inputs(np.random.default_rng(4), (1, 1, 1, 1, 1, 22), "float32")
    with pytest.raises(RuntimeError, match="prime factor above 7"):
        _C.emulate.nplr_kernel(*arrays.values(), 22, None, "forward", 0)


def test_nplr_spectrum_of_tied_features() -> None:
    sizes = (5, 3, 2, 2, 2, 12)
    rng = np.random.default_rng(5)
    arrays = nplr_inputs(rng, sizes, "float64", tied=True)
    inputs = exact_inputs(arrays)
    (out,) = in_every_order(_C.emulate.nplr_spectrum, *arrays.values(), 12, None)
    expected = reference.nplr_spectrum(**inputs, L=12)
    assert_close(out, expected, "float64")

    grad = complex_normal(rng, *expected.shape)
    got = in_every_order(
        _C.emulate.nplr_spectrum_backward, grad, *arrays.values(), 12, None, [True] * 6
    )
    wanted = gradients(reference.nplr_spectrum, inputs, grad, L=12)
    for name, one, want in zip(arrays, got, wanted, strict=True):
        if name not in ("C", "dt"):
            per_feature = one.reshape(-1, 5, 3).view(np.float64)
            (summed,) = in_every_order(_C.emulate.sum_features, per_feature)
            one = summed.view(np.complex128).reshape(want.shape)
        assert_close(one, want, "float64")


# (batch, channels, features, length, n): rows go through the transform in pairs, over the batch,
# then over features; n is made of 2, 3, 5 and 7; one stage (2) to five; 256 threads share a stage.
CONV_SIZES = [
    (1, 1, 1, 1, 2),
    (2, 1, 2, 3, 6),
    (1, 2, 3, 5, 10),
    (3, 2, 2, 7, 28),
    (5, 1, 3, 60, 120),
    (2, 3, 1, 441, 882),
    (1, 1, 2, 1000, 2000),
    (2, 1, 1, 1000, 2048),
]


def conv_exact(
    u: np.ndarray, spectrum: np.ndarray, D: np.ndarray | None
) -> dict[str, torch.Tensor]:
    arrays = {"u": u, "spectrum": spectrum} | ({} if D is None else {"D": D})
    return exact_inputs(arrays)


@pytest.mark.parametrize("activation", [None, "gelu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", CONV_SIZES)
def test_s4_conv(sizes: tuple[int, int, int, int, int], dtype: str, activation: str | None) -> None:
    rng = np.random.default_rng(sizes[-1])
    skip = activation is not None
    u, spectrum, D = conv_inputs(rng, sizes, dtype, skip)
    inputs = conv_exact(u, spectrum, D)
    gelu = activation == "gelu"

    (y,) = in_every_order(_C.emulate.s4_conv, u, spectrum, D, gelu, dtype)
    expected = reference.s4_conv(**inputs, activation=activation)
    assert_close(y, expected, dtype)

    grad = rng.standard_normal(expected.shape).astype(REAL[dtype])
    got = in_every_order(
        _C.emulate.s4_conv_backward, grad, u, spectrum, D, gelu, [True, True, skip], dtype
    )
    wanted = gradients(reference.s4_conv, inputs, grad.astype(np.float64), activation=activation)
    for one, want in zip(got, wanted, strict=False):
        assert_close(one, want, dtype)


@pytest.mark.parametrize(
    "wanted", [(True, False, False), (False, True, False), (False, False, True)]
)
def test_s4_conv_computes_only_wanted_gradients(wanted: tuple[bool, bool, bool]) -> None:
    rng = np.random.default_rng(1)
    u, spectrum, D = conv_inputs(rng, (3, 2, 2, 5, 10), "float64", skip=True)
    inputs = conv_exact(u, spectrum, D)
    grad = rng.standard_normal((3, 2, 2, 5))
    got = in_every_order(
        _C.emulate.s4_conv_backward, grad, u, spectrum, D, True, list(wanted), "float64"
    )
    expected = gradients(reference.s4_conv, inputs, grad, activation="gelu")
    for one, want, asked in zip(got, expected, wanted, strict=True):
        if asked:
            assert_close(one, want, "float64")
        else:
            assert np.isnan(one).all()


# Rows whose points do not fit into shared memory: forward, and backward with its two sequences.
@pytest.mark.parametrize(("dtype", "length"), [("float32", 6000), ("float64", 3000)])
def test_s4_conv_of_long_rows(dtype: str, length: int) -> None:
    rng = np.random.default_rng(length)
    u, spectrum, D = conv_inputs(rng, (2, 1, 1, length, 2 * length), dtype, skip=True)
    inputs = conv_exact(u, spectrum, D)
    (y,) = in_every_order(_C.emulate.s4_conv, u, spectrum, D, True, dtype)
    expected = reference.s4_conv(**inputs, activation="gelu")
    assert_close(y, expected, dtype)
    grad = rng.standard_normal(expected.shape).astype(REAL[dtype])
    got = in_every_order(_C.emulate.s4_conv_backward, grad, u, spectrum, D, True, [True] * 3, dtype)
    wanted = gradients(reference.s4_conv, inputs, grad.astype(np.float64), activation="gelu")
    for one, want in zip(got, wanted, strict=True):
        assert_close(one, want, dtype)


@pytest.mark.parametrize(("dtype", "spacing"), [("float16", 2.0**-11), ("bfloat16", 2.0**-8)])
def test_s4_conv_of_half_precision_signals(dtype: str, spacing: float) -> None:
    rng = np.random.default_rng(2)
    u, spectrum, D = conv_inputs(rng, (3, 1, 2, 30, 60), dtype, skip=True)
    inputs = conv_exact(u, spectrum, D)
    (y,) = in_every_order(_C.emulate.s4_conv, u, spectrum, D, False, dtype)
    expected = reference.s4_conv(**inputs).numpy()
    # Computed in float and rounded once, to nearest.
    assert (np.abs(y - expected) <= spacing * np.abs(expected) + 1e-5).all()


def test_s4_conv_of_an_empty_batch() -> None:
    rng = np.random.default_rng(3)
    u, spectrum, D = conv_inputs(rng, (0, 2, 3, 5, 10), "float32", skip=True)
    (y,) = in_every_order(_C.emulate.s4_conv, u, spectrum, D, False, "float32")
    assert y.shape == (0, 2, 3, 5)
    grad = np.zeros((0, 2, 3, 5), np.float32)
    _, dspectrum, dD = in_every_order(
        _C.emulate.s4_conv_backward, grad, u, spectrum, D, False, [True] * 3, "float32"
    )
    assert (dspectrum == 0).all()
    assert (dD == 0).all()


def test_s4_conv_refuses_other_prime_factors() -> None:
    rng = np.random.default_rng(4)
    u, spectrum, D = conv_inputs(rng, (1, 1, 1, 11, 22), "float32", skip=False)
    with pytest.raises(RuntimeError, match="prime factor above 7"):
        _C.emulate.s4_conv(u, spectrum, D, False, "float32", "forward", 0)

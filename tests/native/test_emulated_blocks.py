"""The CUDA kernels' block programs on the host emulator: indexing, tiles, tails and reductions.

The bodies are the ones nvcc compiles. Results must match the reference and be the same bits whatever the order of
threads and blocks; shared memory, registers and outputs start as NaN, so what nobody wrote shows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ecgcore import _C
from ecgcore.ops import reference

ORDERS = (("forward", 0), ("reverse", 0), ("random", 1), ("random", 2))
COMPLEX = {"float32": np.complex64, "float64": np.complex128}
REAL = {"float32": np.float32, "float64": np.float64}
TOLERANCE = {"float32": 2e-6, "float64": 1e-13}


def complex_normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def in_every_order(function: Any, *args: Any) -> list[np.ndarray]:
    """Results of an emulated kernel, after checking that no order of threads changes a bit."""
    runs = []
    for order, seed in ORDERS:
        out = function(*args, order, seed)
        runs.append(out if isinstance(out, tuple) else (out,))
    for (order, seed), run in zip(ORDERS[1:], runs[1:], strict=True):
        for i, (first, other) in enumerate(zip(runs[0], run, strict=True)):
            assert first.tobytes() == other.tobytes(), f"result {i} differs in {order} order ({seed})"
    return list(runs[0])


def assert_close(got: np.ndarray, expected: torch.Tensor, dtype: str) -> None:
    want = expected.detach().numpy()
    assert got.shape == want.shape
    if want.size == 0:
        return
    assert np.isfinite(got).all()
    error = np.abs(got - want).max() / np.abs(want).max()
    assert error <= TOLERANCE[dtype]


def gradients(
    function: Any, inputs: dict[str, torch.Tensor], cotangent: np.ndarray, **options: Any
) -> list[torch.Tensor]:
    """Autograd of the reference in double precision."""
    leaves = {k: v.detach().requires_grad_() for k, v in inputs.items()}
    out = function(**leaves, **options)
    return list(torch.autograd.grad(out, list(leaves.values()), torch.from_numpy(cotangent)))


@pytest.mark.parametrize("order", ["forward", "reverse", "random"])
def test_emulator_runs_a_correct_program(order: str) -> None:
    assert _C.emulate.faulty("none", order, 3).tolist() == list(range(32))


def test_emulator_shows_a_race() -> None:
    runs = {tuple(_C.emulate.faulty("race", order, seed)) for order, seed in ORDERS}
    assert len(runs) > 1


def test_emulator_shows_unwritten_memory() -> None:
    assert np.isnan(_C.emulate.faulty("unwritten", "forward", 0)[7])


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

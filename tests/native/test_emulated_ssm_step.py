"""The block programs of ``ssm_step`` on the host emulator: rows, tails, sums over the batch."""

from __future__ import annotations

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

# (batch, features, modes, channels, rank): a block takes 4 rows of 32 lanes; sums over the batch go
# by 128 modes.
SIZES = [
    (1, 1, 1, 1, 0),
    (1, 3, 5, 1, 1),
    (2, 5, 33, 2, 1),
    (3, 3, 64, 1, 3),
    (5, 1, 129, 3, 2),
    (2, 7, 32, 1, 0),
]
NAMES = ("state", "u", "A", "B", "C", "P", "Q")


def inputs(
    rng: np.random.Generator, sizes: tuple[int, int, int, int, int], dtype: str
) -> dict[str, np.ndarray]:
    batch, features, modes, channels, rank = sizes
    shapes = {
        "state": (batch, features, modes),
        "A": (features, modes),
        "B": (features, modes),
        "C": (channels, features, modes),
        "P": (rank, features, modes),
        "Q": (rank, features, modes),
    }
    arrays = {k: complex_normal(rng, *shape).astype(COMPLEX[dtype]) for k, shape in shapes.items()}
    arrays["u"] = rng.standard_normal((batch, features)).astype(REAL[dtype])
    return {name: arrays[name] for name in NAMES}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", SIZES)
def test_ssm_step(sizes: tuple[int, int, int, int, int], dtype: str) -> None:
    rng = np.random.default_rng(sizes[2])
    arrays = inputs(rng, sizes, dtype)
    exact = exact_inputs(arrays)
    got = in_every_order(_C.emulate.ssm_step, *arrays.values())
    expected = reference.ssm_step(**exact)
    for one, want in zip(got, expected, strict=True):
        assert_close(one, want, dtype)

    batch, features, modes, channels, _ = sizes
    grad_y = rng.standard_normal((batch, channels, features)).astype(REAL[dtype])
    grad_next = complex_normal(rng, batch, features, modes).astype(COMPLEX[dtype])

    def weighted(**leaves: torch.Tensor) -> torch.Tensor:
        y, following = reference.ssm_step(**leaves)
        towards = torch.from_numpy(grad_next.astype(np.complex128))
        return (y * torch.from_numpy(grad_y).double()).sum() + (
            following * towards.conj()
        ).real.sum()

    grads = in_every_order(
        _C.emulate.ssm_step_backward, grad_y, grad_next, *arrays.values(), got[1], [True] * 7
    )
    wanted = gradients(weighted, exact, np.ones(()))
    for name, one, want in zip(NAMES, grads, wanted, strict=True):
        if want.numel():
            assert_close(one, want, dtype)
        else:
            assert one.size == 0, name


@pytest.mark.parametrize("wanted", range(7))
def test_ssm_step_computes_only_wanted_gradients(wanted: int) -> None:
    rng = np.random.default_rng(wanted)
    arrays = inputs(rng, (2, 3, 5, 2, 2), "float64")
    exact = exact_inputs(arrays)
    _, following = in_every_order(_C.emulate.ssm_step, *arrays.values())
    grad_y = rng.standard_normal((2, 2, 3))
    flags = [i == wanted for i in range(7)]
    grads = in_every_order(
        *(_C.emulate.ssm_step_backward, grad_y, np.zeros_like(following), *arrays.values()),
        *(following, flags),
    )
    expected = gradients(lambda **leaves: reference.ssm_step(**leaves)[0], exact, grad_y)
    for i, (one, want) in enumerate(zip(grads, expected, strict=True)):
        if i == wanted:
            assert_close(one, want, "float64")
        else:
            assert np.isnan(one).all()


def test_ssm_step_of_an_empty_batch() -> None:
    arrays = inputs(np.random.default_rng(0), (0, 3, 5, 2, 1), "float32")
    y, following = in_every_order(_C.emulate.ssm_step, *arrays.values())
    assert (y.shape, following.shape) == ((0, 2, 3), (0, 3, 5))
    grads = in_every_order(
        *(_C.emulate.ssm_step_backward, y, following, *arrays.values(), following, [True] * 7)
    )
    for name, gradient in zip(NAMES[2:], grads[2:], strict=True):
        assert (gradient == 0).all(), name

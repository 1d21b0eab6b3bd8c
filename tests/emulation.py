"""Running the CUDA kernels' block programs on the host emulator, for the tests of every op."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

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
            assert first.tobytes() == other.tobytes(), (
                f"result {i} differs in {order} order ({seed})"
            )
    return list(runs[0])


def assert_close(
    got: np.ndarray, expected: torch.Tensor, dtype: str, scale: float | None = None
) -> None:
    want = expected.detach().numpy()
    assert got.shape == want.shape
    if want.size == 0:
        return
    assert np.isfinite(got).all()
    scale = np.abs(want).max() if scale is None else scale
    assert np.abs(got - want).max() <= TOLERANCE[dtype] * scale


def gradients(
    function: Any, inputs: dict[str, torch.Tensor], cotangent: np.ndarray, **options: Any
) -> list[torch.Tensor]:
    """Autograd of the reference in double precision."""
    leaves = {k: v.detach().requires_grad_() for k, v in inputs.items()}
    out = function(**leaves, **options)
    return list(torch.autograd.grad(out, list(leaves.values()), torch.from_numpy(cotangent)))


def exact_inputs(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    wide = {"c": np.complex128, "f": np.float64}
    return {k: torch.from_numpy(v.astype(wide[v.dtype.kind])) for k, v in arrays.items()}

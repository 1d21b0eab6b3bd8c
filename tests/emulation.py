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


def conv_inputs(
    rng: np.random.Generator, sizes: tuple[int, int, int, int, int], dtype: str, skip: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Signals ``(batch, features, length)``, spectrum and skip of a convolution of these sizes, in
    numbers that ``dtype`` can hold."""
    batch, channels, features, length, n = sizes
    real, wide = REAL.get(dtype, np.float32), COMPLEX.get(dtype, np.complex64)
    u = rng.standard_normal((batch, features, length)).astype(real)
    if dtype in ("float16", "bfloat16"):  # what torch would store
        u = torch.from_numpy(u).to(getattr(torch, dtype)).float().numpy()
    kernel = rng.standard_normal((channels, features, n)) / np.sqrt(length)
    spectrum = np.fft.rfft(kernel).astype(wide)
    # As in irfft, these have no effect.
    spectrum.imag[..., [0, -1]] = rng.standard_normal((channels, features, 2))
    D = rng.standard_normal((channels, features)).astype(real) if skip else None
    return u, spectrum, D

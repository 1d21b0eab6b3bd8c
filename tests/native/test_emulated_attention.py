# SPDX-License-Identifier: MIT
"""The block programs of local attention on the host emulator; see ``test_emulated_blocks.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ecgcore import _C
from ecgcore.ops import reference
from emulation import REAL, assert_close, exact_inputs, gradients, in_every_order

# Tiles are 64 queries, 64 columns and 64 entries of the width. (B, heads, L, d, T)
SIZES = [
    (1, 1, 1, 1, 1),
    (2, 2, 11, 3, 4),
    (1, 2, 70, 65, 66),
    (2, 1, 150, 5, 64),
    (1, 1, 40, 9, 100),
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"pad_keys_attend": False},
    {"window": 1},
    {"window": 1, "pad_keys_attend": False},
]


def arrays(
    B: int, heads: int, L: int, d: int, T: int, dtype: str, extra: str
) -> tuple[dict[str, np.ndarray], np.ndarray | None, np.ndarray]:
    """q, k, v and perhaps bias; mask; a cotangent."""
    rng = np.random.default_rng(1000 * L + d)
    q, k, v, grad = rng.standard_normal((4, B, heads, L, d)).astype(REAL[dtype])
    inputs = {"q": q, "k": k, "v": v}
    if "bias" in extra:
        inputs["bias"] = rng.standard_normal((heads, T, 3 * T)).astype(REAL[dtype])
    mask = rng.random((B, 1, -(-L // T), T, 3 * T)) < 0.8 if "mask" in extra else None
    if mask is not None:
        mask[..., range(T), range(T, 2 * T)] = True  # every query keeps one key
    return inputs, mask, grad


def run(
    inputs: dict[str, np.ndarray],
    mask: np.ndarray | None,
    grad: np.ndarray,
    T: int,
    dtype: str,
    wanted: list[bool],
    options: dict[str, Any],
) -> tuple[np.ndarray, list[np.ndarray]]:
    q, k, v = (inputs[name] for name in "qkv")
    given = (
        T,
        inputs.get("bias"),
        None if mask is None else mask.astype(np.uint8),
        q.shape[-1] ** -0.5,
        options.get("pad_keys_attend", True),
        options.get("window"),
    )
    out, stats = in_every_order(_C.emulate.local_attention, q, k, v, *given, dtype)
    got = in_every_order(
        _C.emulate.local_attention_backward, grad, q, k, v, out, stats, *given, wanted, dtype
    )
    return out, got


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("extra", ["", "bias", "mask", "bias mask"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_local_attention(
    sizes: tuple[int, int, int, int, int], dtype: str, extra: str, options: dict[str, Any]
) -> None:
    T = sizes[-1]
    inputs, mask, grad = arrays(*sizes, dtype, extra)
    call = {"block_length": T, "mask": None if mask is None else torch.from_numpy(mask), **options}
    wanted = [True, True, True, "bias" in inputs]
    out, got = run(inputs, mask, grad, T, dtype, wanted, options)
    exact = exact_inputs(inputs)
    assert_close(out, reference.local_attention(**exact, **call), dtype)
    expected = gradients(reference.local_attention, exact, grad.astype(np.float64), **call)
    for mine, truth in zip(got, expected, strict=False):
        # A query that meets one key has no gradient but of the values: what is left is rounding.
        assert_close(mine, truth, dtype, scale=max(1.0, float(truth.abs().max())))


@pytest.mark.parametrize("one", range(4))
def test_only_wanted_gradients_are_computed(one: int) -> None:
    inputs, mask, grad = arrays(1, 2, 9, 3, 4, "float64", "bias mask")
    together = run(inputs, mask, grad, 4, "float64", [True] * 4, {})[1]
    alone = run(inputs, mask, grad, 4, "float64", [i == one for i in range(4)], {})[1]
    for i in range(4):
        assert (alone[i] == together[i]).all() if i == one else np.isnan(alone[i]).all()


@pytest.mark.parametrize(("dtype", "spacing"), [("bfloat16", 2**-8), ("float16", 2**-11)])
def test_half_precision(dtype: str, spacing: float) -> None:
    """Results are rounded by the caller, gradients here."""
    inputs, _, grad = arrays(1, 2, 30, 8, 16, "float32", "")
    stored = getattr(torch, dtype)
    inputs = {k: torch.from_numpy(v).to(stored).float().numpy() for k, v in inputs.items()}
    out, got = run(inputs, None, grad, 16, dtype, [True] * 3 + [False], {})
    exact = exact_inputs(inputs)
    assert_close(out, reference.local_attention(**exact, block_length=16), "float32")
    cotangent = grad.astype(np.float64)
    wanted = gradients(reference.local_attention, exact, cotangent, block_length=16)
    for mine, truth in zip(got, wanted, strict=False):
        assert np.abs(mine - truth.numpy()).max() <= spacing * truth.abs().max()


def test_an_empty_batch_has_a_zero_gradient_of_the_bias() -> None:
    inputs, _, grad = arrays(0, 2, 9, 3, 4, "float64", "bias")
    out, got = run(inputs, None, grad, 4, "float64", [True] * 4, {})
    assert out.shape == (0, 2, 9, 3)
    assert not got[3].any()

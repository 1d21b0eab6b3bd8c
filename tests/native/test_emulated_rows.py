# SPDX-License-Identifier: MIT
"""The CUDA kernels of the ops on rows of features on the host emulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ecgcore import _C
from ecgcore.ops import reference
from ecgcore.testing.cases import ADD_LAYER_NORM, RESIDUAL_UPDATE, Case
from emulation import assert_close, in_every_order

SMALL_NORMS = [c for c in ADD_LAYER_NORM if c.B * c.L * c.F <= 60_000]
SMALL_UPDATES = [c for c in RESIDUAL_UPDATE if "bench" not in c.tags]


def arrays(case: Case, dtype: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs as arrays, and in double precision for the reference."""
    drawn = case.inputs(getattr(torch, dtype))
    exact = {k: v.double().clone() if isinstance(v, Tensor) else v for k, v in drawn.items()}
    return {k: v.numpy() if isinstance(v, Tensor) else v for k, v in drawn.items()}, exact


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", SMALL_NORMS, ids=str)
def test_add_layer_norm(case: Case, dtype: str) -> None:
    given, exact = arrays(case, dtype)
    features = given["y"].shape[2]
    names = ("eps", "gate", "scale", "accumulate")

    def run(widen: Any) -> np.ndarray:
        rows = [None if given[k] is None else widen(given[k]) for k in ("y", "residual")]
        rest = [given[k] for k in ("weight", "bias", "shift")]
        (found,) = in_every_order(
            _C.emulate.add_layer_norm,
            *rows,
            *rest,
            widen(given["out"]),
            features,
            *(given[k] for k in names),
        )
        return found

    found = run(np.ascontiguousarray)
    want = reference.add_layer_norm(**exact)
    # Distances from a mean of 1000 have lost the digits that the mean has before the point.
    loss = 500 if getattr(case, "offset", 0) else 1
    assert_close(found / loss, want / loss, dtype, scale=float(want.abs().max()))
    # Longer rows: what lies behind the features is neither read nor written.
    nan = run(lambda x: np.pad(x, ((0, 0), (0, 0), (0, 3)), constant_values=np.nan))
    width = found.shape[2]
    assert nan[..., :width].tobytes() == found.tobytes()
    assert np.isnan(nan[..., width:]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", SMALL_UPDATES, ids=str)
def test_residual_update(case: Case, dtype: str) -> None:
    given, exact = arrays(case, dtype)
    names = ("rs", "step", "x", "skip", "padded", "first")
    found = in_every_order(_C.emulate.residual_update, *(given[k] for k in names))
    reference.residual_update(**exact)
    written = [exact[k] for k in ("x", "skip", "padded") if exact[k] is not None]
    for got, want in zip(found, written, strict=True):
        assert_close(got, want, dtype)
    if given["padded"] is not None:
        assert not found[2][:, [0, -1]].any()


def test_rows_of_nothing() -> None:
    rows = np.ones((0, 5, 4), np.float32)
    (out,) = in_every_order(
        _C.emulate.add_layer_norm,
        rows, None, None, None, None, rows, 4, 1e-5, False, 1.0, False,
    )  # fmt: skip
    assert out.shape == rows.shape
    x, skip = in_every_order(
        _C.emulate.residual_update, rows, None, rows[..., :3], rows[..., 3:], None, True
    )
    assert (x.shape, skip.shape) == ((0, 5, 3), (0, 5, 1))

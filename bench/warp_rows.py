# SPDX-License-Identifier: MIT
"""Rows of ``warp_paths``: warping 10 s of twelve leads, all pairs of a set, in float32."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ecgcore import ops
from ecgcore.testing.cases import cases
from measure import Row, Variant


def _dtaidistance(x: Tensor, y: Tensor, out: Tensor, *, largest: bool) -> Tensor:
    """By the C library of that name, which takes float64, pair by pair."""
    from dtaidistance import dtw_ndim

    rows, columns = (t.mT.double().contiguous().numpy() for t in (x, y))
    for i, a in enumerate(rows):
        for j, b in enumerate(columns):
            out[i, j] = dtw_ndim.distance_fast(a, b) ** 2
    return out


def warp_rows(device: str) -> Iterable[Row]:
    """Against our reference, and against dtaidistance where it is installed."""
    if device != "cpu":
        return
    truth = ops.reference.warp_paths
    for case in cases("warp_paths", "bench"):
        inputs: dict[str, Any] = case.inputs(torch.float32)
        variants = [
            Variant("ecgcore", ops.warp_paths, inputs, truth),
            Variant("torch, by diagonals", truth, inputs, truth),
        ]
        if not inputs["largest"] and importlib.util.find_spec("dtaidistance"):
            variants.append(Variant("dtaidistance", _dtaidistance, inputs, truth))
        yield Row("warp_paths", str(case), "forward", variants)

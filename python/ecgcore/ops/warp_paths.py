# SPDX-License-Identifier: MIT
"""Cheapest paths through the distances of two signals, of all pairs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ecgcore.ops import _rows, _shared

_AT_ONCE = 2**24
"""Distances of samples that the reference keeps, 128 MB in float64."""


def warp_paths(x: Tensor, y: Tensor, out: Tensor, *, largest: bool = False) -> Tensor:
    r"""Dynamic time warping or the discrete Fréchet distance of all pairs, squared, into ``out``.
    On the CPU only.

    .. math:: D_{ij} = f\big(|x_i - y_j|^2, \min(D_{i-1,j-1}, D_{i-1,j}, D_{i,j-1})\big), \qquad
        D_{-1,-1} = 0

    over all samples ``i`` and ``j``, distances over all leads; the result is the last one. ``f`` is
    the sum, or the larger of both.

    Args:
        x: ``(n, C, L)``, float32 or float64.
        y: ``(m, C, M)``.
        out: ``(n, m)``, contiguous, overwritten.
        largest: what ``f`` is: the discrete Fréchet distance instead of dynamic time warping.

    Returns:
        ``out``.

    Each pair has the same bits in any set and for any number of threads. No gradient; no window:
    ``n m L M C`` differences are squared.

    Source: Sakoe and Chiba 1978, "Dynamic Programming Algorithm Optimization for Spoken Word
    Recognition"; Eiter and Mannila 1994, "Computing Discrete Fréchet Distance".

    Raises:
        TypeError: for arguments that are not tensors.
        ValueError: for wrong dtypes, shapes or devices.
        RuntimeError: where a gradient would be needed.
    """
    op = "warp_paths"
    _shared.check_tensor(op, "x", x)
    _shared.check_dtype(op, "x", x, torch.float32, torch.float64)
    _shared.check_shape(op, "x", x, "(n, C, L)", (None, None, None))
    if x.is_cuda:
        _shared.fail(op, f"x must be on the CPU, got {x.device}: there use the reference")
    _rows.check_like(op, "y", y, x, "(m, C, M)", (None, x.shape[1], None))
    for name, value in (("x", x), ("y", y)):
        if value.shape[2] < 1:
            _shared.fail(op, f"{name} must have at least one sample, got {tuple(value.shape)}")
    _rows.check_like(op, "out", out, x, "(n, m)", (x.shape[0], y.shape[0]))
    if not out.is_contiguous():
        raise RuntimeError(f"ecgcore::{op}: out must be contiguous, got strides {out.stride()}")
    _rows.refuse_gradients(op, x, y, out)
    torch.ops.ecgcore.warp_paths(_shared.dense(x), _shared.dense(y), largest, out)
    _rows.changed(out)
    return out


def warp_paths_reference(x: Tensor, y: Tensor, out: Tensor, *, largest: bool = False) -> Tensor:
    """The definition of :func:`warp_paths` in plain torch, on any device, diagonal by diagonal."""
    size = max(1, _AT_ONCE // max(1, x.shape[2] * y.shape[2]))
    for i, record in enumerate(x):
        for j in range(0, len(y), size):
            out[i, j : j + size] = _paths_from(record, y[j : j + size], largest)
    return out


def _paths_from(x: Tensor, y: Tensor, largest: bool) -> Tensor:
    """From one record ``(C, n)`` to all of ``y (records, C, m)``, by diagonals ``i + j = k``. Row
    ``i + 1`` of a diagonal's values belongs to ``i``; outside they are infinite."""
    (leads, n), (records, _, m) = x.shape, y.shape
    costs = x.new_zeros(n, m, records)  # of x_i and y_{m-1-j}: a diagonal has a stride of its own
    for c in range(leads):
        costs += (x[c, :, None, None] - y[:, c].flip(1).T).square()
    before, last, new = (x.new_full((n + 1, records), math.inf) for _ in range(3))
    before[0] = 0.0  # in front of both signals
    for k in range(n + m - 1):
        low, high = max(0, k - m + 1), min(n, k + 1)
        first = low * m + m - 1 - k + low
        cost = costs.as_strided((high - low, records), ((m + 1) * records, 1), first * records)
        least = torch.minimum(before[low:high], last[low:high])
        least = torch.minimum(least, last[low + 1 : high + 1])
        new[low] = math.inf
        new[low + 1 : high + 1] = torch.maximum(cost, least) if largest else cost + least
        if high < n:
            new[high + 1] = math.inf
        before, last, new = last, new, before
    return last[n]


@torch.library.register_fake("ecgcore::warp_paths")
def _fake(x: Tensor, y: Tensor, largest: bool, out: Tensor) -> None:
    pass

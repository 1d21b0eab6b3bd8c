"""Distances of signals that may be stretched in time. Costly: a pair of 10 s records takes
milliseconds, and sets of a few hundred have tens of thousands."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ecgcore.metrics.arrays import Array, pair

_AXES = ("n", "leads", "L")
_CHUNK = 2**24
"""Distances of samples that are kept at once, 128 MB."""
_Step = Callable[[Tensor, Tensor], Tensor]


def dtw(x: Array, y: Array) -> Tensor:
    """Dynamic time warping of all pairs: ``(n, leads, L)``, ``(m, leads, M)`` to ``(n, m)``.

    The root of the least sum of squared distances over all leads along a path through both signals
    that moves by one sample in either or both (Sakoe and Chiba 1978, no window); ``L`` and ``M``
    may differ.

    Raises:
        ValueError: shapes.
        DataError: NaN or infinite values.
    """
    a, b = pair(x, y, "dtw", _AXES, fixed=[1])
    return _paths(a, b, lambda cost, least: cost + least).sqrt()


def discrete_frechet(x: Array, y: Array) -> Tensor:
    """Discrete Fréchet distance of all pairs, likewise: the least, over the same paths, of the
    largest distance over all leads on the way (Eiter and Mannila 1994)."""
    a, b = pair(x, y, "discrete_frechet", _AXES, fixed=[1])
    return _paths(a, b, torch.maximum).sqrt()


def _paths(x: Tensor, y: Tensor, step: _Step) -> Tensor:
    """``D[i, j] = step(|x_i - y_j|^2, min(D[i-1, j-1], D[i-1, j], D[i, j-1]))`` at both ends, of
    all pairs."""
    size = max(1, int(_CHUNK // (x.shape[2] * y.shape[2])))
    # Time first and backward, records last: what a diagonal touches lies in pieces of records.
    parts = [part.permute(1, 2, 0).flip(1).contiguous() for part in y.split(size)]
    return torch.stack([torch.cat([_paths_from(a, part, step) for part in parts]) for a in x])


def _paths_from(x: Tensor, backward: Tensor, step: _Step) -> Tensor:
    """From one record ``(leads, n)`` to all of ``backward (leads, m, records)``, by diagonals ``i +
    j = k``. Row ``i + 1`` of a diagonal's values belongs to ``i``; outside they are infinite."""
    (leads, n), (_, m, records) = x.shape, backward.shape
    squares = backward.square().sum(0).flatten() + x.square().sum(0)[:, None]
    costs = torch.addmm(squares, x.T, backward.reshape(leads, -1), alpha=-2).clamp_(min=0)
    before, last, new = (x.new_full((n + 1, records), math.inf) for _ in range(3))
    before[0] = 0.0  # in front of both signals
    for k in range(n + m - 1):
        low, high = max(0, k - m + 1), min(n, k + 1)
        # (i, m - 1 - (k - i)) for i = low .. high - 1
        first = low * m + m - 1 - k + low
        cost = costs.as_strided((high - low, records), ((m + 1) * records, 1), first * records)
        least = torch.minimum(before[low:high], last[low:high])
        torch.minimum(least, last[low + 1 : high + 1], out=least)
        new[low] = math.inf
        new[low + 1 : high + 1] = step(cost, least)
        if high < n:
            new[high + 1] = math.inf
        before, last, new = last, new, before
    return last[n]

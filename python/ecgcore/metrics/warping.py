"""Distances of signals that may be stretched in time."""

from __future__ import annotations

from torch import Tensor

from ecgcore import ops
from ecgcore.metrics.arrays import Array, pair


def dtw(x: Array, y: Array) -> Tensor:
    """Dynamic time warping of all pairs: ``(n, leads, L)``, ``(m, leads, M)`` to ``(n, m)``
    float64.

    The root of the least sum of squared distances over all leads along a path through both signals
    that moves by one sample in either or both (Sakoe and Chiba 1978, no window); ``L`` and ``M``
    may differ. On a CPU by :func:`ecgcore.ops.warp_paths`, elsewhere by its reference.

    Raises:
        ValueError: shapes.
        DataError: NaN or infinite values.
    """
    return _roots(x, y, "dtw", largest=False)


def discrete_frechet(x: Array, y: Array) -> Tensor:
    """Discrete Fréchet distance of all pairs, likewise: the least, over the same paths, of the
    largest distance over all leads on the way (Eiter and Mannila 1994)."""
    return _roots(x, y, "discrete_frechet", largest=True)


def _roots(x: Array, y: Array, metric: str, *, largest: bool) -> Tensor:
    a, b = pair(x, y, metric, ("n", "leads", "L"), fixed=[1])
    paths = ops.warp_paths if a.device.type == "cpu" else ops.reference.warp_paths
    return paths(a, b, a.new_empty(len(a), len(b)), largest=largest).sqrt_()

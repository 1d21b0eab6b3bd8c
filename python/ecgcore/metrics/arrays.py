"""What the metrics take: arrays of numpy or torch, computed with in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ecgcore.errors import DataError

Array = np.ndarray | Tensor


def as_tensor(value: Array, metric: str, name: str, axes: Sequence[str]) -> Tensor:
    """``value`` in float64 where it lies; ``axes`` are the names of its axes, none of them empty.

    Raises:
        TypeError: no array of numbers.
        ValueError: another number of axes, or an empty one.
        DataError: NaN or infinite values.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        value = torch.from_numpy(np.ascontiguousarray(value))
    if not isinstance(value, Tensor) or value.is_complex():
        kind = value.dtype if isinstance(value, np.ndarray | Tensor) else type(value).__name__
        raise TypeError(f"metrics.{metric}: {name} must be an array of real numbers, got {kind}")
    if value.ndim != len(axes) or 0 in value.shape:
        raise ValueError(
            f"metrics.{metric}: {name} must have shape ({', '.join(axes)}), got "
            f"{tuple(value.shape)}"
        )
    value = value.detach().to(torch.float64)
    if not torch.isfinite(value).all():
        raise DataError(f"metrics.{metric}: {name} holds NaN or infinite values")
    return value


def pair(
    x: Array, y: Array, metric: str, axes: Sequence[str], *, fixed: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Both, with the sizes of the axes ``fixed`` in common."""
    a, b = as_tensor(x, metric, "x", axes), as_tensor(y, metric, "y", axes)
    if a.device != b.device:
        raise ValueError(f"metrics.{metric}: y must be on {a.device} like x, got {b.device}")
    for axis in fixed:
        if a.shape[axis] != b.shape[axis]:
            raise ValueError(
                f"metrics.{metric}: x and y must have the same {axes[axis]}, got shapes "
                f"{tuple(a.shape)} and {tuple(b.shape)}"
            )
    return a, b


def rows(x: Array, y: Array, metric: str, *, least: int = 1) -> tuple[Tensor, Tensor]:
    """Records ``(n, ...)`` and ``(m, ...)`` of one shape as rows of numbers."""
    dims = x.ndim if isinstance(x, np.ndarray | Tensor) else 2
    axes = ["n", *(f"axis {i}" for i in range(1, max(dims, 2)))]
    a, b = pair(x, y, metric, axes, fixed=range(1, len(axes)))
    for name, value in (("x", a), ("y", b)):
        if len(value) < least:
            raise ValueError(
                f"metrics.{metric}: {name} must have at least {least} records, got {len(value)}"
            )
    return a.flatten(1), b.flatten(1)

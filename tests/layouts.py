"""The same numbers at other strides, and comparison bit for bit, for the tests of the ops."""

from __future__ import annotations

import torch
from torch import Tensor

from ecgcore.testing import relative_error


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), (
            f"{name} differs by {relative_error(a[name], b[name])}"
        )


def strided(value: Tensor, order: tuple[int, ...] | None = None, step: int = 2) -> Tensor:
    """The same numbers at other strides: every ``step``-th entry, along every axis, of a larger
    array whose axes lie in memory in another ``order`` (default: back to front)."""
    if value.dim() == 0:
        return value
    order = tuple(range(value.dim()))[::-1] if order is None else order
    wide = torch.zeros([step * value.shape[axis] for axis in order], dtype=value.dtype)
    back = sorted(range(value.dim()), key=order.__getitem__)
    view = wide.permute(back)[tuple(slice(None, None, step) for _ in value.shape)]
    return view.copy_(value)

"""Counter-based random numbers: the noise of a record depends on the seed and its number alone.

An ordinary generator hands out one stream, so the noise of record 7 depends on how many records
were drawn before it, in which batches, and on which device. A counter-based generator is a function
instead: it maps (key, counter) to random bits. With the seed as key and (element, draw, record) as
counter, any process can make the noise of any record of any step, in any order, and always gets the
same numbers.

The generator is Philox-4x32 with ten rounds: J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw,
"Parallel random numbers: as easy as 1, 2, 3", SC 2011. Normals follow from its bits by the
transform of G. E. P. Box and M. E. Muller (1958), computed in double, so that devices differ by a
rounding of the last bit at most. The kernels are the ops ``philox_normal`` and ``philox_uniform``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ecgcore.ops.philox import MAX_SEED, philox4x32, philox_normal, philox_uniform

__all__ = ["MAX_SEED", "normal", "normal_into", "philox4x32", "uniform", "uniform_into"]


def normal(
    shape: Sequence[int],
    *,
    seed: int,
    records: Sequence[int] | Tensor,
    draw: int | Tensor,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard normal noise of the given records: row ``i`` depends on ``(seed, records[i], draw)``
    alone.

    Args:
        shape: of one record, for instance ``(channels, L)``.
        seed: 0 to 2^64 - 1.
        records: their numbers, each in [0, 2^63); int64 if a tensor.
        draw: which of a record's draws, in [0, 2^32); in diffusion 0 is x_T. A number, or an int64
            tensor ``(1,)``.
        device: where to compute. The bits are the same everywhere.
        dtype: of the result; the arithmetic is double.

    Returns:
        ``(len(records), *shape)``.

    Raises:
        ValueError: a seed, record, draw or shape out of range.
    """
    return _made(philox_normal, "normal", shape, seed, records, draw, device, dtype)


def normal_into(
    out: Tensor, *, seed: int, records: Sequence[int] | Tensor, draw: int | Tensor
) -> Tensor:
    """:func:`normal`, written into the contiguous tensor ``out (len(records), ...)``.

    With ``records`` and ``draw`` as tensors on its device nothing else is moved, so a captured CUDA
    graph can be replayed with another ``draw``.

    Returns:
        ``out``.
    """
    return philox_normal(out, seed=seed, records=_index("normal_into", records, out), draw=draw)


def uniform(
    shape: Sequence[int],
    *,
    seed: int,
    records: Sequence[int] | Tensor,
    draw: int | Tensor,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Noise uniform in [-1, 1] of the given records; arguments and result as those of ``normal``.

    Element ``4 i + j`` of a record is word ``j`` of its block ``i``, ``(word + 1/2) / 2^31 - 1``.
    """
    return _made(philox_uniform, "uniform", shape, seed, records, draw, device, dtype)


def uniform_into(
    out: Tensor, *, seed: int, records: Sequence[int] | Tensor, draw: int | Tensor
) -> Tensor:
    """:func:`uniform`, written into ``out``; arguments as those of ``normal_into``."""
    return philox_uniform(out, seed=seed, records=_index("uniform_into", records, out), draw=draw)


def _made(
    fill: Callable[..., Tensor],
    function: str,
    shape: Sequence[int],
    seed: int,
    records: Sequence[int] | Tensor,
    draw: int | Tensor,
    device: torch.device | str | None,
    dtype: torch.dtype,
) -> Tensor:
    if any(size < 0 for size in shape) or math.prod(shape) > 4 * (2**32 - 1):
        raise ValueError(
            f"{function}: a record of shape {tuple(shape)} has no valid number of elements"
        )
    where = records.device if device is None and isinstance(records, Tensor) else device
    like = torch.empty((0,), device=where)
    index = _index(function, records, like)
    out = like.new_empty((index.numel(), *shape), dtype=dtype)
    return fill(out, seed=seed, records=index, draw=draw)


def _index(function: str, records: Sequence[int] | Tensor, like: Tensor) -> Tensor:
    """The records' numbers on the device of ``like``; looked at where that costs no wait."""
    index = torch.as_tensor(records, dtype=torch.int64)
    if index.dim() != 1:
        raise ValueError(
            f"{function}: records must be a list of numbers, got shape {tuple(index.shape)}"
        )
    if index.device.type == "cpu" and index.numel() and int(index.min()) < 0:
        raise ValueError(f"{function}: records must not be negative, got {int(index.min())}")
    return index.to(like.device)

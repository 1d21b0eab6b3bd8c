# SPDX-License-Identifier: MIT
"""Counter-based noise: the numbers of a record depend on seed, record and draw alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ecgcore.ops import _rows, _shared

MAX_SEED = 2**64 - 1

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)  # golden ratio and sqrt(3) - 1: what the key grows by each round
_ROUNDS = 10
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def philox_normal(out: Tensor, *, seed: int, records: Tensor, draw: int | Tensor) -> Tensor:
    """Fill ``out`` with standard normal noise: row ``i`` depends on ``(seed, records[i], draw)``
    alone.

    Element ``4 i + j`` of a row comes from the four words of Philox-4x32-10 for the counter
    ``(i, draw, record's low word, record's high word)`` and the seed as key: normals 0 and 1 from
    words 0 and 1 by the transform of Box and Muller (1958), normals 2 and 3 from words 2 and 3.

    Args:
        out: ``(B, ...)``, contiguous, float32, float64, bfloat16 or float16, overwritten. The
            arithmetic is double, so that devices differ by a rounding of the last bit at most.
        seed: 0 to 2^64 - 1.
        records: ``(B,)``, int64, on the device of ``out``, none negative.
        draw: in [0, 2^32): a number, or an int64 tensor ``(1,)`` on the device of ``out``, which is
            read when the kernel runs, so that a captured CUDA graph can be replayed with another.

    Returns:
        ``out``.

    Raises:
        TypeError: for arguments of another type.
        ValueError: for wrong dtypes, shapes or devices, and for a seed or draw out of range.
        RuntimeError: on the CPU, for a negative record or a ``draw`` tensor out of range. A GPU
            could only report one after a wait for it; there such rows become NaN.
    """
    return _fill("philox_normal", out, seed, records, draw)


def philox_uniform(out: Tensor, *, seed: int, records: Tensor, draw: int | Tensor) -> Tensor:
    """As :func:`philox_normal`, but uniform in [-1, 1]: element ``4 i + j`` of a row is word ``j``
    of block ``i``, ``(word + 1/2) / 2^31 - 1``."""
    return _fill("philox_uniform", out, seed, records, draw)


def philox_normal_reference(
    out: Tensor, *, seed: int, records: Tensor, draw: int | Tensor
) -> Tensor:
    """The definition of :func:`philox_normal` in plain torch."""

    def numbers(words: Tensor) -> Tensor:
        # The half keeps the logarithm's argument off zero, so the largest radius is
        # sqrt(2 ln 2^33) = 6.76.
        radius = words[..., 0::2].double().add_(0.5).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
        angle = words[..., 1::2].double().mul_(2.0 * math.pi * 2.0**-32)
        return torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1).flatten(-2)

    return _fill_reference(numbers, out, seed, records, draw)


def philox_uniform_reference(
    out: Tensor, *, seed: int, records: Tensor, draw: int | Tensor
) -> Tensor:
    """The definition of :func:`philox_uniform` in plain torch."""

    def numbers(words: Tensor) -> Tensor:
        return words.double().add_(0.5).mul_(2.0**-31).sub_(1.0)

    return _fill_reference(numbers, out, seed, records, draw)


def philox4x32(counter: Tensor, key: tuple[int, int]) -> Tensor:
    """Philox-4x32-10 in plain torch: four 32-bit words of random bits for every 128-bit counter.

    Args:
        counter: int64 ``(4, ...)``, the counter's 32-bit words, lowest first, each in [0, 2^32).
        key: the key's two 32-bit words, lowest first.

    Returns:
        int64 ``(4, ...)``, each in [0, 2^32), on the counter's device.

    Raises:
        TypeError: the counter is not int64.
        ValueError: the counter's first axis does not have size 4.
    """
    if counter.dtype != torch.int64:
        raise TypeError(f"philox4x32: counter must be int64, got {counter.dtype}")
    if counter.dim() == 0 or counter.shape[0] != 4:
        raise ValueError(f"philox4x32: counter must be (4, ...), got {tuple(counter.shape)}")
    word = counter.unbind()
    for r in range(_ROUNDS):
        # int64 holds the 64-bit products exactly, as a two's complement; the mask takes off what
        # the signed shift leaves above bit 31.
        first, second = word[0] * _MULTIPLIERS[0], word[2] * _MULTIPLIERS[1]
        keys = [key[i] + r * _WEYL[i] & _MASK for i in (0, 1)]
        word = (
            (second >> 32) & _MASK ^ word[1] ^ keys[0],
            second & _MASK,
            (first >> 32) & _MASK ^ word[3] ^ keys[1],
            first & _MASK,
        )
    return torch.stack(word)


def _fill(op: str, out: Tensor, seed: int, records: Tensor, draw: int | Tensor) -> Tensor:
    _check(op, out, seed, records, draw)
    _rows.refuse_gradients(op, out)
    if not isinstance(draw, Tensor):
        draw = torch.full((1,), draw, dtype=torch.int64, device=out.device)
    getattr(torch.ops.ecgcore, op)(records.contiguous(), seed & _MASK, seed >> 32, draw, out)
    _rows.changed(out)
    return out


def _fill_reference(
    numbers: Callable[[Tensor], Tensor],
    out: Tensor,
    seed: int,
    records: Tensor,
    draw: int | Tensor,
) -> Tensor:
    size = math.prod(out.shape[1:])
    blocks = torch.arange(-(-size // 4), device=out.device)
    counter = torch.stack(
        torch.broadcast_tensors(
            blocks,
            torch.as_tensor(draw, device=out.device),
            (records & _MASK)[:, None],
            (records >> 32)[:, None],
        )
    )
    words = philox4x32(counter, (seed & _MASK, seed >> 32)).permute(1, 2, 0)
    return out.copy_(numbers(words).flatten(1)[:, :size].view(out.shape))


def _check(op: str, out: Tensor, seed: int, records: Tensor, draw: int | Tensor) -> None:
    _shared.check_tensor(op, "out", out)
    _shared.check_dtype(op, "out", out, *_DTYPES)
    _shared.check_tensor(op, "records", records)
    shape = (out.shape[0] if out.dim() else None,)
    _rows_of(op, "records", records, out, "(B,) for out (B, ...)", shape)
    if out.dim() == 0:
        _shared.fail(op, "out must have shape (B, ...), got ()")
    if not out.is_contiguous():
        _shared.fail(op, f"out must be contiguous, got strides {out.stride()}")
    if not _is_int(seed) or not (_is_int(draw) or isinstance(draw, Tensor)):
        name, value = ("draw", draw) if _is_int(seed) else ("seed", seed)
        raise TypeError(f"ecgcore::{op}: {name} must be an int, got {type(value).__name__}")
    if not 0 <= seed <= MAX_SEED:
        _shared.fail(op, f"seed must be in [0, 2^64), got {seed}")
    if isinstance(draw, Tensor):
        _rows_of(op, "draw", draw, out, "(1,)", (1,))
    elif not 0 <= draw <= _MASK:
        _shared.fail(op, f"draw must be in [0, 2^32), got {draw}")


def _rows_of(
    op: str, name: str, value: Tensor, out: Tensor, symbols: str, shape: tuple[int | None, ...]
) -> None:
    _shared.check_dtype(op, name, value, torch.int64)
    _shared.check_device(op, name, value, out.device)
    _shared.check_shape(op, name, value, symbols, shape)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _fake(records: Tensor, seed_low: int, seed_high: int, draw: Tensor, out: Tensor) -> None:
    pass


for _op in ("philox_normal", "philox_uniform"):
    torch.library.register_fake(f"ecgcore::{_op}", _fake)

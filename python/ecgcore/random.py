"""Counter-based random numbers: the noise of a record depends on the seed and its number alone.

An ordinary generator hands out one stream, so the noise of record 7 depends on how many records
were drawn before it, in which batches, and on which device. A counter-based generator is a function
instead: it maps (key, counter) to random bits. With the seed as key and (element, draw, record) as
counter, any process can make the noise of any record of any step, in any order, and always gets the
same numbers.

The generator is Philox-4x32 with ten rounds: J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw,
"Parallel random numbers: as easy as 1, 2, 3", SC 2011. Normals follow from its bits by the
transform of G. E. P. Box and M. E. Muller (1958), computed in double, so that devices differ by a
rounding of the last bit at most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["MAX_SEED", "normal", "philox4x32", "uniform"]

MAX_SEED = 2**64 - 1

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)  # golden ratio and sqrt(3) - 1: what the key grows by each round
_ROUNDS = 10


def philox4x32(counter: Tensor, key: tuple[int, int]) -> Tensor:
    """Philox-4x32-10: four 32-bit words of random bits for every 128-bit counter.

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
    even, odd = _rounds(counter[0::2].clone(), counter[1::2].clone(), key)
    return torch.stack((even[0], odd[0], even[1], odd[1]))


def _rounds(even: Tensor, odd: Tensor, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The ten rounds on words (0, 2) and (1, 3), each ``(2, ...)``, which are overwritten.

    One round is, with the products of 32 by 32 bits split into halves,

        word 0 <- high(M1 word 2) ^ word 1 ^ key 0      word 1 <- low(M1 word 2)
        word 2 <- high(M0 word 0) ^ word 3 ^ key 1      word 3 <- low(M0 word 0)

    The pairs are therefore kept in swapped order after every other round instead of being moved.
    int64 holds the 64-bit product exactly, as a two's complement; what the signed shift and the
    unmasked low half leave above bit 31 is cleared once, after the exclusive or.
    """
    column = (2,) + (1,) * (even.dim() - 1)
    multipliers = even.new_tensor(_MULTIPLIERS).view(column)
    swapped_multipliers = multipliers.flip(0)
    keys = even.new_tensor(
        [[key[i] + r * _WEYL[i] & _MASK for i in (1, 0)] for r in range(_ROUNDS)]
    )
    spare = torch.empty_like(odd)
    for r in range(_ROUNDS):
        swapped = r % 2 == 1
        torch.mul(even, swapped_multipliers if swapped else multipliers, out=spare)
        torch.bitwise_right_shift(spare, 32, out=even)
        even[0] ^= odd[1]
        even[1] ^= odd[0]
        even ^= (keys[r].flip(0) if swapped else keys[r]).view(column)
        even &= _MASK
        odd, spare = spare, odd
    odd &= _MASK
    return even, odd


def normal(
    shape: Sequence[int],
    *,
    seed: int,
    records: Sequence[int] | Tensor,
    draw: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard normal noise of the given records: row ``i`` depends on ``(seed, records[i], draw)``
    alone.

    Args:
        shape: of one record, for instance ``(channels, L)``.
        seed: 0 to 2^64 - 1.
        records: their numbers, each in [0, 2^63); int64 if a tensor.
        draw: which of a record's draws, in [0, 2^32); in diffusion 0 is x_T.
        device: where to compute. The bits are the same everywhere.
        dtype: of the result; the arithmetic is double.

    Returns:
        ``(len(records), *shape)``.

    Raises:
        ValueError: a seed, record, draw or shape out of range.
    """
    even, odd = _words("normal", shape, seed, records, draw, device)
    _, count, blocks = even.shape
    # Words 0 and 2 give radii, words 1 and 3 angles. The half keeps the logarithm's argument off
    # zero, so the largest radius is sqrt(2 ln 2^33) = 6.76.
    radius = even.double().add_(0.5).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
    angle = odd.double().mul_(2.0 * math.pi * 2.0**-32)
    # Normals 0 and 1 of a block come from words 0 and 1, normals 2 and 3 from words 2 and 3.
    values = torch.empty((count, blocks, 2, 2), dtype=dtype, device=even.device)
    by_pair = values.permute(2, 0, 1, 3)
    by_pair[..., 0] = angle.cos().mul_(radius)
    by_pair[..., 1] = angle.sin_().mul_(radius)
    return values.view(count, blocks * 4)[:, : math.prod(shape)].reshape(count, *shape)


def uniform(
    shape: Sequence[int],
    *,
    seed: int,
    records: Sequence[int] | Tensor,
    draw: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Noise uniform in [-1, 1] of the given records; arguments and result as those of ``normal``.

    Element ``4 i + j`` of a record is word ``j`` of its block ``i``, ``(word + 1/2) / 2^31 - 1``.
    """
    even, odd = _words("uniform", shape, seed, records, draw, device)
    _, count, blocks = even.shape
    words = torch.stack((even[0], odd[0], even[1], odd[1]), dim=-1)
    values = words.double().add_(0.5).mul_(2.0**-31).sub_(1.0).to(dtype)
    return values.view(count, blocks * 4)[:, : math.prod(shape)].reshape(count, *shape)


def _words(
    function: str,
    shape: Sequence[int],
    seed: int,
    records: Sequence[int] | Tensor,
    draw: int,
    device: torch.device | str | None,
) -> tuple[Tensor, Tensor]:
    """Random words (0, 2) and (1, 3) of the records' blocks, ``(2, records, blocks)`` each."""
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"{function}: seed must be in [0, 2^64), got {seed}")
    if not 0 <= draw <= _MASK:
        raise ValueError(f"{function}: draw must be in [0, 2^32), got {draw}")
    index = torch.as_tensor(records, dtype=torch.int64, device=device)
    if index.dim() != 1:
        raise ValueError(
            f"{function}: records must be a list of numbers, got shape {tuple(index.shape)}"
        )
    if index.numel() and int(index.min()) < 0:
        raise ValueError(f"{function}: records must not be negative, got {int(index.min())}")
    size = math.prod(shape)
    blocks = (size + 3) // 4
    if size < 0 or blocks > _MASK:
        raise ValueError(
            f"{function}: a record of shape {tuple(shape)} has no valid number of elements"
        )
    even = torch.empty((2, index.numel(), blocks), dtype=torch.int64, device=index.device)
    odd = torch.empty_like(even)
    even[0] = torch.arange(blocks, device=index.device)
    odd[0] = draw
    even[1] = (index & _MASK).unsqueeze(1)
    odd[1] = (index >> 32).unsqueeze(1)
    return _rounds(even, odd, (seed & _MASK, seed >> 32))

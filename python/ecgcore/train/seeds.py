"""Randomness of a run as a function of (seed, stream, index), so that resuming needs no generator
state.
"""

from __future__ import annotations

import hashlib

import torch


def derived_seed(seed: int, stream: str, index: int) -> int:
    """A 63-bit seed; different streams and indices are independent for all practical purposes."""
    digest = hashlib.blake2b(f"{seed}/{stream}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, stream: str, index: int) -> torch.Generator:
    """A CPU generator for one purpose: the same numbers on every device and in every process."""
    return torch.Generator().manual_seed(derived_seed(seed, stream, index))

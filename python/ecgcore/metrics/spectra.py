"""Spectra of records as SynthECG's evaluation compares them."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ecgcore.data.quality import welch
from ecgcore.metrics.arrays import Array, as_tensor

SEGMENT = 512
_SILENCE = 1e-8


def psd(
    x: Array, fs: float = 100.0, *, window: Literal["periodic", "symmetric"] = "periodic"
) -> Tensor:
    """Power of each lead by frequency, of sum 1: ``(n, leads, L)`` to ``(n, leads, 257)`` float64.

    Welch's method: segments of 512 samples (of all of a shorter signal), half overlapping, mean
    removed, Hamming window; a lead whose power sums to less than 1e-8 gives zeros.

    Args:
        x: in mV.
        fs: sampling rate in Hz.
        window: ``"periodic"`` as scipy makes it for spectra, or ``"symmetric"`` as ``np.hamming``
            and ``cupy.hamming`` are; the numbers differ in the fourth digit.

    Raises:
        ValueError: shapes, or another window.
        DataError: NaN or infinite values.
    """
    signal = as_tensor(x, "psd", "x", ("n", "leads", "L"))
    size = min(SEGMENT, signal.shape[-1])
    if window not in ("periodic", "symmetric"):
        raise ValueError(f"metrics.psd: window must be periodic or symmetric, got {window!r}")
    taper = np.hamming(size + 1)[:-1] if window == "periodic" else np.hamming(size)
    _, density = welch(signal.cpu().numpy(), fs, size, taper)
    power = torch.from_numpy(density).to(signal.device)
    total = power.sum(-1, keepdim=True)
    return torch.where(total < _SILENCE, 0.0, power / total.clamp(min=_SILENCE))

"""How much one lead tells about another."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ecgcore.metrics.arrays import Array, as_tensor


def nmi(x: Array, *, bins: int = 32) -> Tensor:
    r"""Normalised mutual information of every pair of leads: ``(n, leads, L)`` to ``(n, leads,
    leads)`` float64, 0 to 1.

    .. math:: \frac{H(x) + H(y)}{H(x, y)} - 1

    with the entropies of a histogram of ``bins x bins`` over each record's own range. A constant
    lead tells nothing and gives 0.

    Source: Studholme, Hill and Hawkes 1999, "An overlap invariant entropy measure"; as in
    SynthECG's evaluation.

    Raises:
        ValueError: shapes, or less than two bins.
        DataError: NaN or infinite values.
    """
    signal = as_tensor(x, "nmi", "x", ("n", "leads", "L"))
    if bins < 2:
        raise ValueError(f"metrics.nmi: bins must be at least 2, got {bins}")
    found = np.stack([_of_record(record, bins) for record in signal.cpu().numpy()])
    return torch.from_numpy(found).to(signal.device)


def _of_record(x: np.ndarray, bins: int) -> np.ndarray:
    leads, length = x.shape
    cells = np.stack([_cells(lead, bins) for lead in x])
    first, second = np.triu_indices(leads)
    # All pairs' joint histograms in one count.
    offsets = np.arange(len(first))[:, None] * bins**2
    joint = np.bincount(
        (offsets + cells[first] * bins + cells[second]).ravel(), minlength=len(first) * bins**2
    ).reshape(len(first), bins, bins)
    both, one, other = (
        _entropy(h / length) for h in (joint.reshape(len(first), -1), joint.sum(2), joint.sum(1))
    )
    shared = np.divide(one + other, both, out=np.ones_like(both), where=both > 0) - 1
    found = np.zeros((leads, leads))
    found[first, second] = found[second, first] = shared
    return found


def _cells(lead: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each sample, as ``np.histogram`` has it: the last one holds its right edge."""
    low, high = lead.min(), lead.max()
    if low == high:
        return np.zeros(len(lead), np.int64)
    edges = np.linspace(low, high, bins + 1)
    return np.minimum(np.searchsorted(edges, lead, side="right") - 1, bins - 1)


def _entropy(p: np.ndarray) -> np.ndarray:
    return -np.sum(p * np.log(p, out=np.zeros_like(p), where=p > 0), axis=-1)

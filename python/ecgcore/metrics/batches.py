"""Which records are compared with which: batches that hold every class in its share, and records
with the same labels."""

from __future__ import annotations

import numpy as np

from ecgcore.errors import DataError


def stratified_folds(labels: np.ndarray, k: int, rng: np.random.Generator) -> list[np.ndarray]:
    """The indices of ``labels (n, classes)``, multi-hot, in ``k`` parts of about ``n / k`` with all
    classes in their shares.

    Class by class, the rarest first, each record goes where its class is wanted most; ties go to
    the part that has most room, then by lot. Source: Sechidis, Tsoumakas and Vlahavas 2011, "On the
    Stratification of Multi-Label Data", algorithm 1.
    """
    n = len(labels)
    if not 1 <= k <= n:
        raise ValueError(f"stratified_folds: k must lie in 1..{n}, the number of records, got {k}")
    on = labels > 0
    left = np.ones(n, bool)
    room = np.full(k, n / k)
    wanted = np.tile(on.sum(0) / k, (k, 1))  # (k, classes)
    part = np.zeros(n, np.int64)
    while left.any():
        counts = on[left].sum(0)
        rarest = int(np.where(counts > 0, counts, n + 1).argmin())
        of_class = left & on[:, rarest] if counts[rarest] else left
        for i in rng.permutation(np.flatnonzero(of_class)):
            desire = wanted[:, rarest] if counts[rarest] else room
            best = np.flatnonzero(desire == desire.max())
            best = best[room[best] == room[best].max()]
            chosen = int(rng.choice(best))
            part[i] = chosen
            wanted[chosen] -= on[i]
            room[chosen] -= 1
            left[i] = False
    return [np.flatnonzero(part == j) for j in range(k)]


def matched(
    wanted: np.ndarray, there: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """For each row of ``wanted (n, classes)`` a row of ``there (m, classes)`` with the same labels.

    Rows are drawn without repetition as long as they last. Where no row has all the same labels,
    one of those with the fewest differences is taken.

    Returns:
        Indices ``(n,)`` into ``there``, and how many rows have other labels than wanted.
    """
    if wanted.shape[1] != there.shape[1]:
        raise DataError(f"matched: {wanted.shape[1]} classes wanted, {there.shape[1]} there")
    if len(there) == 0:
        raise DataError("matched: no record to choose from")
    want, have = wanted > 0, there > 0
    kinds, of_kind = np.unique(want, axis=0, return_inverse=True)
    found = np.zeros(len(want), np.int64)
    others = 0
    for kind in range(len(kinds)):
        places = np.flatnonzero(of_kind.reshape(-1) == kind)
        off = (have != kinds[kind]).sum(1)
        candidates = np.flatnonzero(off == off.min())
        turns = -(-len(places) // len(candidates))
        drawn = np.concatenate([rng.permutation(candidates) for _ in range(turns)])
        found[places] = drawn[: len(places)]
        others += len(places) if off.min() else 0
    return found, others

"""From a model's channels to the leads of its records, and back from leads that are known."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ecgcore import data
from ecgcore.data.leads import BASES, limb_weights

TOLERANCE_MV = 0.02
"""What given limb leads may miss Einthoven's relations by. Recordings in whole microvolt miss them
by 0.003 mV at most (207 records of three collections), at 200 units/mV by 0.01 mV."""

_LIMB = data.LEADS[:6]


def leads_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """The leads of a record whose model has the channels ``names``."""
    is_ecg = names in BASES.values() or set(names) == set(data.LEADS)
    return data.LEADS if is_ecg else names


def to_leads(x: Tensor, names: tuple[str, ...]) -> Tensor:
    """Channels ``(n, channels, L)`` as the leads they stand for, ``(n, leads, L)``."""
    for basis, eight in BASES.items():
        if names == eight:
            return data.to_twelve_leads(x, basis=basis, order="ptbxl")
    if set(names) == set(data.LEADS):
        return data.reorder_leads(x, names, data.LEADS)
    return x


def to_channels(
    known: Tensor, mask: Tensor, names: tuple[str, ...], first: int = 0
) -> tuple[Tensor, Tensor]:
    """What given leads say of a model's channels.

    Args:
        known: ``(n, leads, L)`` float32 in mV, leads in the order of ``leads_of(names)``.
        mask: bool, like ``known``; true where it is given.
        names: the model's channels.
        first: number of the first record, for messages.

    Returns:
        values ``(n, channels, L)`` in mV and where they are given, bool alike.

    Raises:
        ValueError: limb leads that contradict each other, or a single one from which the channels
            of an eight-channel model do not follow.
    """
    for basis, eight in BASES.items():
        if names == eight:
            return _to_eight(known, mask, basis, first)
    if set(names) == set(data.LEADS):
        index = [data.LEADS.index(name) for name in names]
        return known[:, index], mask[:, index]
    return known, mask


def _to_eight(known: Tensor, mask: Tensor, basis: str, first: int) -> tuple[Tensor, Tensor]:
    """The limb leads span two dimensions: any two of them give both channels, all that are given
    give them by least squares.
    """
    eight = BASES[basis]
    index = [data.LEADS.index(name) for name in eight]
    x, given = known[:, index].clone(), mask[:, index].clone()
    weights = np.array([limb_weights(basis)[lead] for lead in _LIMB])  # (6, 2)
    own = [row for row in range(len(_LIMB)) if _LIMB[row] in eight]  # the basis' limb leads
    at = [eight.index(_LIMB[row]) for row in own]

    limb, kept = known[:, :6].double().numpy(), mask[:, :6].numpy()
    pattern = (kept * (1 << np.arange(6))[:, None]).sum(1)  # (n, L): which of the six are given
    for code in np.unique(pattern):
        rows = [row for row in range(6) if code >> row & 1]
        if not rows or (len(rows) == 1 and rows[0] in own):
            continue
        record, sample = np.nonzero(pattern == code)
        where = f"record {first + int(record[0])}, sample {int(sample[0])}"
        if len(rows) == 1:
            raise ValueError(
                f"sample: of the limb leads only {_LIMB[rows[0]]} is kept ({where}), from which "
                f"the model's channels {' and '.join(_LIMB[row] for row in own)} do not follow; "
                f"keep a second limb lead with it, or keep {_LIMB[own[0]]} or {_LIMB[own[1]]} alone"
            )
        values = limb[record, :, sample][:, rows]  # (points, leads given)
        fitted = values @ np.linalg.pinv(weights[rows]).T  # (points, 2): I and the other
        off = np.abs(fitted @ weights[rows].T - values).max(1)
        worst = int(off.argmax())
        if off[worst] > TOLERANCE_MV:
            told = ", ".join(
                f"{_LIMB[row]} = {value:.3f}"
                for row, value in zip(rows, values[worst], strict=True)
            )
            raise ValueError(
                f"sample: known leads contradict each other at record "
                f"{first + int(record[worst])}, sample {int(sample[worst])}: {told} mV miss "
                f"III = II - I, aVR = -(I + II)/2, ... by {off[worst]:.3f} mV, more than "
                f"{TOLERANCE_MV} mV; keep two limb leads, the others follow from them"
            )
        for channel, values in zip(at, fitted.T, strict=True):  # lead I comes first in both
            x[record, channel, sample] = torch.from_numpy(values).float()
            given[record, channel, sample] = True
    return x, given

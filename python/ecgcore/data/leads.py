"""Names, orders and arithmetic of the twelve ECG leads.

Eight leads carry all twelve: with the electrode potentials written out (Einthoven 1908, Goldberger
1942),

    III = II - I,   aVR = -(I + II)/2,   aVL = I - II/2,   aVF = II - I/2.

So generative models draw eight and the other four follow. Two bases are in use: ``"I-aVF"`` (I,
V1..V6, aVF; SSSD-ECG and SynthECG) and ``"I-II"`` (I, II, V1..V6; deepfake-ecg). Two orders of the
twelve are in use as well: ``"ptbxl"``, the one printed on paper (:data:`LEADS`), and
``"reference"``, that of the npy files of SSSD-ECG and SynthECG (:data:`REFERENCE_LEADS`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch

from ecgcore.errors import DataError

LEADS: tuple[str, ...] = (
    *("I", "II", "III", "aVR", "aVL", "aVF"),
    *("V1", "V2", "V3", "V4", "V5", "V6"),
)
"""Order of PTB-XL, and of every twelve-lead array in this package."""

REFERENCE_LEADS: tuple[str, ...] = (
    *("I", "II", "V1", "V2", "V3", "V4", "V5", "V6"),
    *("III", "aVR", "aVL", "aVF"),
)
"""Order of the npy files of SSSD-ECG and SynthECG."""

ORDERS: dict[str, tuple[str, ...]] = {"reference": REFERENCE_LEADS, "ptbxl": LEADS}

BASES: dict[str, tuple[str, ...]] = {
    "I-aVF": ("I", "V1", "V2", "V3", "V4", "V5", "V6", "aVF"),
    "I-II": ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6"),
}

# Each limb lead as (weight of I, weight of the basis' other limb lead).
_LIMB_WEIGHTS: dict[str, dict[str, tuple[float, float]]] = {
    "I-aVF": {"II": (0.5, 1.0), "III": (-0.5, 1.0), "aVR": (-0.75, -0.5), "aVL": (0.75, -0.5)},
    "I-II": {"III": (-1.0, 1.0), "aVR": (-0.5, -0.5), "aVL": (1.0, -0.5), "aVF": (-0.5, 1.0)},
}

_BY_UPPER = {lead.upper(): lead for lead in LEADS} | {"D" + lead: lead for lead in LEADS[:3]}

Signal = TypeVar("Signal", np.ndarray, torch.Tensor)


def parse_lead(name: str) -> str:
    """The lead's name as in :data:`LEADS`; any case is read, and the ``DI``, ``DII``, ``DIII`` of
    some devices.
    """
    if not isinstance(name, str):
        raise TypeError(f"lead name must be a str, got {type(name).__name__}")
    lead = _BY_UPPER.get(name.strip().upper())
    if lead is None:
        raise DataError(f"{name!r} is not one of the twelve leads {', '.join(LEADS)}")
    return lead


def parse_leads(names: Sequence[str]) -> tuple[str, ...]:
    """Several names through :func:`parse_lead`; naming one lead twice is a :class:`DataError`."""
    leads = tuple(parse_lead(name) for name in names)
    for lead in leads:
        if leads.count(lead) > 1:
            raise DataError(f"lead {lead} is named {leads.count(lead)} times in {', '.join(names)}")
    return leads


def reorder_leads(x: Signal, source: Sequence[str], target: Sequence[str]) -> Signal:
    """Rows of ``x (..., leads, L)``, stored in the order ``source``, taken in the order ``target``.

    ``target`` may name fewer leads. Returns a copy of the same dtype; a lead that ``source`` lacks
    is a :class:`DataError`.
    """
    have, want = parse_leads(source), parse_leads(target)
    _check_signal("reorder_leads", x, len(have))
    missing = [lead for lead in want if lead not in have]
    if missing:
        raise DataError(
            f"reorder_leads: {', '.join(missing)} not among the given leads {', '.join(have)}"
        )
    return _take(x, [have.index(lead) for lead in want])


def to_eight_leads(x: Signal, *, basis: str = "I-aVF", order: str = "reference") -> Signal:
    """The eight leads of ``basis`` out of twelve.

    Args:
        x: ``(..., 12, L)``, array or tensor of any dtype, in the order named by ``order``.
        basis: ``"I-aVF"`` gives I, V1..V6, aVF; ``"I-II"`` gives I, II, V1..V6.
        order: ``"reference"`` (:data:`REFERENCE_LEADS`) or ``"ptbxl"`` (:data:`LEADS`).

    Returns:
        ``(..., 8, L)``, a copy of the same kind and dtype.
    """
    eight, twelve = _lookup("to_eight_leads", basis, order)
    _check_signal("to_eight_leads", x, 12)
    return _take(x, [twelve.index(lead) for lead in eight])


def to_twelve_leads(x: Signal, *, basis: str = "I-aVF", order: str = "reference") -> Signal:
    """All twelve leads from the eight of ``basis``; satisfies the lead relations to rounding.

    Args:
        x: ``(..., 8, L)``, floating array or tensor, in the order of the basis.
        basis: ``"I-aVF"`` (I, V1..V6, aVF) or ``"I-II"`` (I, II, V1..V6).
        order: order of the result, ``"reference"`` or ``"ptbxl"``.

    Returns:
        ``(..., 12, L)`` of the same kind, dtype and device; differentiable for tensors.
    """
    eight, twelve = _lookup("to_twelve_leads", basis, order)
    _check_signal("to_twelve_leads", x, 8)
    floating = x.is_floating_point() if isinstance(x, torch.Tensor) else x.dtype.kind == "f"
    if not floating:
        raise TypeError(f"to_twelve_leads: x must be floating (leads are halved), got {x.dtype}")
    rows = {lead: x[..., i, :] for i, lead in enumerate(eight)}
    first, other = rows["I"], rows["aVF" if basis == "I-aVF" else "II"]
    for lead, (a, b) in _LIMB_WEIGHTS[basis].items():
        rows[lead] = a * first + b * other
    parts = [rows[lead] for lead in twelve]
    if isinstance(x, torch.Tensor):
        return torch.stack(parts, dim=-2)
    return np.stack(parts, axis=-2)


def limb_weights(basis: str) -> dict[str, tuple[float, float]]:
    """The six limb leads as weights of lead I and the other limb lead of ``basis``."""
    other = "aVF" if basis == "I-aVF" else "II"
    own = {"I": (1.0, 0.0), other: (0.0, 1.0)}
    weights = own | _LIMB_WEIGHTS[basis]
    return {lead: weights[lead] for lead in LEADS[:6]}


def _lookup(function: str, basis: str, order: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if basis not in BASES:
        raise ValueError(f"{function}: basis must be 'I-aVF' or 'I-II', got {basis!r}")
    if order not in ORDERS:
        raise ValueError(f"{function}: order must be 'reference' or 'ptbxl', got {order!r}")
    return BASES[basis], ORDERS[order]


def _check_signal(function: str, x: object, leads: int) -> None:
    if not isinstance(x, np.ndarray | torch.Tensor):
        raise TypeError(f"{function}: x must be an array or a tensor, got {type(x).__name__}")
    if x.ndim < 2 or x.shape[-2] != leads:
        raise ValueError(f"{function}: x must have shape (..., {leads}, L), got {tuple(x.shape)}")


def _take(x: Signal, index: list[int]) -> Signal:
    if isinstance(x, torch.Tensor):
        return x.index_select(-2, torch.tensor(index, device=x.device))
    return np.take(x, index, axis=-2)

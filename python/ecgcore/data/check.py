"""Numerical check of lead order and scale.

Names in a header prove little: arrays travel without them, in at least four orders and five scales.
But the limb leads are linearly dependent, and an ECG in millivolts has a known size, so both can be
read off the numbers. A check that fails says what the array looks like instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ecgcore.data.leads import LEADS, REFERENCE_LEADS, parse_leads
from ecgcore.errors import DataError

# Orders seen in public data sets and files, and how to call them.
_KNOWN_ORDERS: dict[str, tuple[str, ...]] = {
    "the PTB-XL order": LEADS,
    "the reference npy order": REFERENCE_LEADS,
    "the MIMIC-IV-ECG order": (*LEADS[:4], "aVF", "aVL", *LEADS[6:]),
    "chest leads first": (*LEADS[6:], *LEADS[:6]),
    "augmented leads first": (*LEADS[3:6], *LEADS[:3], *LEADS[6:]),
    "I, III, II": ("I", "III", "II", *LEADS[3:]),
    "I and II exchanged": ("II", "I", *LEADS[2:]),
    # Data in one order, taken for the other and "put right".
    "leads reordered that stood right already": tuple(
        LEADS[REFERENCE_LEADS.index(lead)] for lead in LEADS
    ),
    "reference leads reordered twice": tuple(
        REFERENCE_LEADS[LEADS.index(lead)] for lead in REFERENCE_LEADS
    ),
}

# Linear relations between limb leads: sum of weight * lead = 0.
_RELATIONS: tuple[dict[str, float], ...] = (
    {"I": 1.0, "II": -1.0, "III": 1.0},
    {"I": 0.5, "II": 0.5, "aVR": 1.0},
    {"I": -1.0, "II": 0.5, "aVL": 1.0},
    {"I": 0.5, "II": -1.0, "aVF": 1.0},
    {"aVR": 1.0, "aVL": 1.0, "aVF": 1.0},
)

# A relation holds if its residual stays under the larger of the two. Quantisation at 200 units/mV,
# the coarsest in use, leaves under 0.01 mV; a wrong order leaves about as much as the leads
# themselves (ratio 0.9 to 1.7 on 207 records).
_RESIDUAL_MV = 0.01
_RESIDUAL_RATIO = 0.05

# Peak-to-peak amplitude per second of the largest lead. 207 records of three collections in mV:
# 0.83 to 6.8, median 2.2 to 2.5; the same standardised: median 9.5; in microvolt or ADC units of
# 200/mV: beyond 160; in volt: below 0.007.
_SMALLEST_MV = 0.05
_LARGEST_MV = 40.0
_LARGEST_MEDIAN_MV = 6.5
_ENOUGH_FOR_MEDIAN = 8


@dataclass(frozen=True)
class LeadCheck:
    """What :func:`check_leads` measured.

    ``residual_mv (n,)``: largest RMS residual of the lead relations per record, NaN where too few
    limb leads carry a signal; ``broken``: records that satisfy the relations in no known order (a
    bad electrode, a clipped lead).
    """

    residual_mv: np.ndarray
    broken: tuple[int, ...]


def check_leads(
    x: np.ndarray | torch.Tensor,
    leads: Sequence[str] = LEADS,
    fs: float | None = None,
    *,
    max_broken: float = 0.1,
    name: str = "x",
) -> LeadCheck:
    """Check that ``x`` is a 12-lead ECG in mV whose leads stand in the order ``leads``.

    Args:
        x: ``(leads, L)`` or ``(n, leads, L)``, floating, mV.
        leads: names in the order they are claimed to have.
        fs: sampling rate in Hz; with it the amplitude is judged second by second, so that a step or
            slow wander does not count as a large signal.
        max_broken: share of records that may break the relations without fitting another known
            order.
        name: how messages call the array.

    Raises:
        DataError: NaN or infinite values, all records flat, another scale than mV (microvolt, ADC
            units, volt, standardised), another lead order. The message says what the array looks
            like. Leads without a signal are left out of the judgement.
        ValueError, TypeError: shape or dtype.
    """
    order = parse_leads(leads)
    records = _as_records(x, order, name)
    bad = ~np.isfinite(records).all(axis=(1, 2))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        where = np.argwhere(~np.isfinite(records[first]))[0]
        raise DataError(
            f"{name}: {int(bad.sum())} of {len(records)} records hold NaN or infinite values"
            f" (first: record {first}, lead {order[where[0]]}, sample {where[1]})"
        )
    if len(records) == 0:
        return LeadCheck(np.zeros(0), ())
    if not np.ptp(records, axis=-1).any():
        raise DataError(f"{name}: every lead of every record is flat")
    # Order first: its verdict does not depend on scale, while a scale verdict reads better once the
    # order is known.
    check = _check_order(records, order, max_broken, name)
    _check_scale(records, fs, name)
    return check


def _as_records(x: np.ndarray | torch.Tensor, order: tuple[str, ...], name: str) -> np.ndarray:
    array = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
    if array.dtype.kind in "iu":
        raise TypeError(
            f"{name}: must be floating point in mV, got {array.dtype}, which looks like ADC units"
            " or microvolt;"
            " divide by the gain first"
        )
    if array.dtype.kind != "f":
        raise TypeError(f"{name}: must be floating point in mV, got {array.dtype}")
    count = len(order)
    if array.ndim not in (2, 3) or array.shape[-2] != count:
        hint = ""
        if array.ndim in (2, 3) and array.shape[-1] == count:
            hint = "; the last two axes look exchanged"
        raise ValueError(
            f"{name}: must have shape ({count}, L) or (n, {count}, L), got {array.shape}{hint}"
        )
    if array.shape[-1] == 0:
        raise ValueError(f"{name}: must hold at least one sample, got shape {array.shape}")
    records = array if array.ndim == 3 else array[None]
    return records.astype(np.float32) if array.dtype == np.float16 else records


def relation_residual(records: np.ndarray, order: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """RMS residual in mV of the worst relation, and the same over the RMS of the limb leads:
    ``(n,)`` each.

    ``records (n, leads, L)`` is read in the order ``order``. Offsets count: a relation is between
    values, not shapes. Leads that are constant in a record take no part there; NaN where no
    relation is left.
    """
    position = {lead: i for i, lead in enumerate(order)}
    relations = [r for r in _RELATIONS if all(lead in position for lead in r)]
    worst = np.full(len(records), np.nan)
    size = np.full(len(records), np.nan)
    alive = np.ptp(records, axis=-1) > 0
    for relation in relations:
        index = [position[lead] for lead in relation]
        usable = alive[:, index].all(axis=1)
        if not usable.any():
            continue
        part = records[usable][:, index]
        total = np.einsum("k,nkl->nl", np.array(list(relation.values()), part.dtype), part)
        rms = np.sqrt(np.mean(np.square(total, dtype=np.float64), axis=-1))
        largest = np.sqrt(np.mean(np.square(part, dtype=np.float64), axis=(1, 2)))
        worst[usable] = np.fmax(worst[usable], rms)
        size[usable] = np.fmax(size[usable], largest)
    return worst, worst / size


def _holds(residual: np.ndarray, ratio: np.ndarray, scale: float) -> np.ndarray:
    return (residual <= _RESIDUAL_MV * scale) | (ratio <= _RESIDUAL_RATIO)


def _check_order(
    records: np.ndarray, order: tuple[str, ...], max_broken: float, name: str
) -> LeadCheck:
    residual, ratio = relation_residual(records, order)
    judged = np.isfinite(residual)
    # In microvolt the absolute tolerance means nothing and in volt everything passes it, so it goes
    # with the scale.
    scale = min(1.0, float(np.median(_amplitude(records, None))))
    failed = np.flatnonzero(judged & ~_holds(residual, ratio, scale))
    if len(failed) == 0:
        return LeadCheck(residual, ())
    suspects = records[failed]
    for label, known in _KNOWN_ORDERS.items():
        if known == order or set(known) != set(order):
            continue
        other_residual, other_ratio = relation_residual(suspects, known)
        # A flat limb lead leaves too few relations to accuse anybody of an order.
        limbs = [known.index(lead) for lead in LEADS[:6]]
        whole = (np.ptp(suspects[:, limbs], axis=-1) > 0).all(axis=1)
        fits = whole & _holds(other_residual, other_ratio, scale)
        if fits.any():
            raise DataError(
                f"{name}: {_share(int(fits.sum()), len(records))} not in the lead order"
                f" {_brief(order)}:"
                f" III differs from II - I by {_typical(residual[failed][fits])} mV."
                f" Looks like {label}, {_brief(known)}"
            )
    # One bad electrode among a few records is no verdict on the array.
    allowed = max(max_broken * int(judged.sum()), 1 if len(records) > 1 else 0)
    if max_broken < 1.0 and len(failed) > allowed:
        raise DataError(
            f"{name}: {_share(len(failed), len(records))} not an ECG in the lead order"
            f" {_brief(order)}: the relations"
            f" III = II - I, aVR = -(I + II)/2, ... miss by {_typical(residual[failed])} mV and"
            " no known order fits."
            f" {_explain(suspects, records)}"
        )
    return LeadCheck(residual, tuple(int(i) for i in failed))


def _explain(suspects: np.ndarray, records: np.ndarray) -> str:
    span = np.ptp(suspects, axis=-1)
    alive = span > 0
    spread = suspects.std(axis=-1)
    middle = np.abs(suspects.mean(axis=-1))
    if np.median(np.abs(spread[alive] - 1.0)) < 0.01 and np.median(middle[alive]) < 0.01:
        return "Looks standardised lead by lead (mean 0, standard deviation 1); undo that first"
    if len(records) >= _ENOUGH_FOR_MEDIAN:
        by_lead = records.std(axis=(0, 2))
        if abs(records.std() - 1.0) < 0.05 or np.median(np.abs(by_lead - 1.0)) < 0.05:
            return "Looks standardised (standard deviation 1 over all records); undo that first"
    relative = np.abs(span[alive] / np.median(span[alive]) - 1.0)
    peak = np.abs(suspects).max(axis=-1)[alive]
    if np.median(relative) < 0.01 or np.median(np.abs(peak / np.median(peak) - 1.0)) < 0.001:
        return (
            "Looks scaled lead by lead (every lead spans the same range, as with LUDB's own"
            " headers);"
            " use the raw integers or one common gain"
        )
    return "Were leads filtered, scaled or shifted one by one, or is this no ECG?"


def _amplitude(records: np.ndarray, fs: float | None) -> np.ndarray:
    """Median over seconds of the peak-to-peak span, of the largest lead: ``(n,)``."""
    window = records.shape[-1] if fs is None else max(1, min(records.shape[-1], round(fs)))
    count = records.shape[-1] // window
    parts = records[..., : count * window].reshape(*records.shape[:2], count, window)
    return np.median(np.ptp(parts, axis=-1), axis=-1).max(axis=-1)


def _check_scale(records: np.ndarray, fs: float | None, name: str) -> None:
    amplitude = _amplitude(records, fs)
    live = amplitude[amplitude > 0]
    if len(live) == 0:
        return
    typical = float(np.median(live))
    found = f"{name}: the largest lead spans {typical:.3g} where an ECG in mV spans 0.5 to 10."
    if typical > _LARGEST_MV:
        raise DataError(f"{found} Looks like microvolt or raw ADC units; divide by the gain first")
    if typical < _SMALLEST_MV:
        raise DataError(f"{found} Looks like volt; multiply by 1000 first")
    if len(live) >= _ENOUGH_FOR_MEDIAN and typical > _LARGEST_MEDIAN_MV:
        raise DataError(
            f"{found} Looks standardised (standard deviation {records.std():.2f}); undo that first"
        )
    peak = np.abs(records).max(axis=(1, 2))
    if len(live) >= _ENOUGH_FOR_MEDIAN and np.median(np.abs(peak / np.median(peak) - 1)) < 1e-4:
        raise DataError(
            f"{name}: every record peaks at {np.median(peak):.3g}. Looks scaled record by record;"
            " undo that first"
        )


def _brief(order: Sequence[str]) -> str:
    chest = ", ".join(LEADS[6:])
    return ", ".join(order).replace(chest, "V1..V6")


def _share(count: int, total: int) -> str:
    if total == 1:
        return "the record is"
    return f"{count} of {total} records {'is' if count == 1 else 'are'}"


def _typical(residual: np.ndarray) -> str:
    return f"{float(np.median(residual)):.3g}"

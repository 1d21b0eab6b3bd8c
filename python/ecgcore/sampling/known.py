"""Inpainting: signals that are given, and what is to be kept of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ecgcore import data
from ecgcore.sampling.channels import leads_of, to_channels

_CHECKED = 256
"""Records whose copy exists while all are checked."""

_SECONDS = re.compile(r"(\d+\.?\d*)?-(\d+\.?\d*)?s")


@dataclass(frozen=True, eq=False)
class Known:
    """Signals of which parts are kept.

    Attributes:
        x: ``(1 or n, leads, L)`` floating, in mV and in the order of the result's leads.
        mask: bool, broadcasts to ``(n, leads, L)``; true where ``x`` is kept.
        names: the model's channels.
        records: n, if the arguments say it: None where both are the same for all records.
    """

    x: np.ndarray
    mask: np.ndarray
    names: tuple[str, ...]
    records: int | None

    @classmethod
    def read(cls, known: Any, mask: Any, names: tuple[str, ...]) -> Known:
        """Check the types and shapes of ``known`` and ``mask``, as ``model.sample`` takes them."""
        if known is None or mask is None:
            missing = "known" if known is None else "mask"
            raise ValueError(f"sample: known and mask go together, {missing} is missing")
        x, kept = _array(known), _array(mask)
        leads = leads_of(names)
        if x.dtype.kind != "f":
            raise TypeError(f"sample: known must be floating, in mV, got {x.dtype}")
        if x.ndim not in (2, 3) or x.shape[-2] != len(leads) or 0 in x.shape:
            raise ValueError(
                f"sample: known must have shape (n, {len(leads)}, L), leads in the order "
                f"{', '.join(leads)}; got {x.shape}"
            )
        if kept.dtype.kind != "b":
            raise TypeError(f"sample: mask must be boolean, true where kept, got {kept.dtype}")
        fits = kept.ndim in (2, 3) and all(
            have in (1, want) for have, want in zip(kept.shape[-2:], x.shape[-2:], strict=True)
        )
        if not fits:
            raise ValueError(
                f"sample: mask must have the shape (n, {x.shape[-2]}, {x.shape[-1]}) of known, or "
                f"1 where it is the same all along an axis; got {kept.shape}"
            )
        counts = [len(array) for array in (x, kept) if array.ndim == 3]
        x, kept = (array if array.ndim == 3 else array[None] for array in (x, kept))
        return cls(x, kept, names, max(counts, default=None))

    @property
    def length(self) -> int:
        """Samples of a record."""
        return int(self.x.shape[2])

    def check(self, count: int) -> None:
        """Raise ValueError if this cannot be kept in ``count`` records."""
        for name, array in (("known", self.x), ("mask", self.mask)):
            if len(array) not in (1, count):
                raise ValueError(
                    f"sample: {name} must hold n = {count} records, or one for all; got "
                    f"{len(array)}"
                )
        distinct = count if max(len(self.x), len(self.mask)) > 1 else 1
        for first in range(0, distinct, _CHECKED):
            self.in_channels(range(first, min(first + _CHECKED, distinct)))

    def in_leads(self, records: range) -> tuple[Tensor, Tensor]:
        """``(x, mask)`` of some records, ``(records, leads, L)`` float32 in mV and bool. Where
        nothing is kept ``x`` is 0, whatever was given there.
        """
        x = np.asarray(_part(self.x, records), dtype=np.float32)
        mask = np.broadcast_to(_part(self.mask, records), (len(records), *x.shape[1:]))
        x = np.where(mask, x, np.float32(0))
        if not np.isfinite(x).all():
            at = np.argwhere(~np.isfinite(x))[0]
            raise ValueError(
                f"sample: known must be finite where it is kept, got {x[tuple(at)]} in record "
                f"{records[at[0]]}, {leads_of(self.names)[at[1]]}, sample {at[2]}"
            )
        return torch.from_numpy(x), torch.from_numpy(mask.copy())

    def in_channels(self, records: range) -> tuple[Tensor, Tensor]:
        """What ``in_leads`` says of the model's channels, ``(records, channels, L)`` each."""
        return to_channels(*self.in_leads(records), self.names, records.start)


def keep(what: str, *, leads: Sequence[str] = data.LEADS, length: int, fs: float) -> Tensor:
    """A mask for ``model.sample`` from words.

    Args:
        what: leads and seconds with commas between them. ``"I,II"`` keeps two leads, ``"0-5s"`` the
            first five seconds of all, ``"I,II,0-5s"`` those of the two leads; ``"-1s"`` and
            ``"9-s"`` have no beginning and no end. Of several spans of seconds each is kept.
        leads: the rows of a record.
        length: samples of a record.
        fs: their rate in Hz.

    Returns:
        bool ``(leads, length)``, true where kept.

    Raises:
        ValueError: a lead that is not among ``leads``, or seconds outside the record.
    """
    rows = torch.zeros(len(leads), 1, dtype=torch.bool)
    spans = torch.zeros(1, length, dtype=torch.bool)
    upper = [lead.upper() for lead in leads]
    for word in (word.strip() for word in what.split(",")):
        if span := _SECONDS.fullmatch(word):
            start, stop = (
                default if text is None else round(float(text) * fs)
                for text, default in zip(span.groups(), (0, length), strict=True)
            )
            if not start < stop <= length:
                raise ValueError(f"keep: {word!r} is no span of a record of {length / fs:g} s")
            spans[:, start:stop] = True
        elif word.upper() in upper:
            rows[upper.index(word.upper())] = True
        else:
            raise ValueError(
                f"keep: expected leads ({', '.join(leads)}) and seconds (0-5s), got {word!r}"
            )
    return (rows | ~rows.any()) & (spans | ~spans.any())


def _array(values: Any) -> np.ndarray:
    """An array; one on the disk (``np.memmap``) stays there."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    return np.asanyarray(values)


def _part(array: np.ndarray, records: range) -> np.ndarray:
    return array if len(array) == 1 else array[records.start : records.stop]

"""Folders of npy arrays as SynthECG and SSSD-ECG keep them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ecgcore.data.base import ECGDataset, MissingDataError
from ecgcore.data.check import check_leads
from ecgcore.data.classes import default_class_names
from ecgcore.data.leads import LEADS, REFERENCE_LEADS, parse_leads, reorder_leads
from ecgcore.errors import DataError

_PREFIXES = ("", "ptbxl_")  # SynthECG's train_data.npy, SSSD-ECG's ptbxl_train_data.npy
_SAMPLED = 64  # records looked at when a folder is opened


class NpyDataset(ECGDataset):
    """``{split}_data.npy (n, 12, L)`` and ``{split}_labels.npy (n, classes)``, memory-mapped.

    SSSD-ECG's file names, ``ptbxl_{split}_data.npy``, are found as well. Items are ``(x (12, L)
    float32 mV in the order of LEADS, y (classes,) float32)``, whatever order the file has.

    Args:
        folder: where the arrays lie.
        split: ``"train"``, ``"val"`` or ``"test"``.
        leads: order of the stored leads: the reference's unless said otherwise. It is checked on
            records spread over the file, as is the scale.
        fs: sampling rate in Hz; the files do not say.
        class_names: names of the label columns; by default the superclasses for 5, the SCP
            statements for 71, ``class0`` ... otherwise.

    Raises:
        MissingDataError: folder or arrays do not exist.
        DataError: not such arrays, no label for some record, NaN, another lead order or scale.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        split: str = "train",
        *,
        leads: Sequence[str] = REFERENCE_LEADS,
        fs: float = 100,
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.split = split
        self.fs = fs
        self.leads = LEADS
        self._stored = parse_leads(leads)
        if set(self._stored) != set(LEADS):
            raise ValueError(f"NpyDataset: leads must name all twelve, got {', '.join(leads)}")
        if not self.folder.is_dir():
            raise MissingDataError(f"NpyDataset: folder {self.folder} does not exist")
        data = _find(self.folder, split, "data")
        labels = data.with_name(data.name.replace("_data.npy", "_labels.npy"))
        self.path = data
        self._x = _open(data)
        if self._x.ndim != 3 or self._x.shape[1] != 12 or 0 in self._x.shape:
            raise DataError(f"{data}: must have shape (n, 12, L), got {self._x.shape}")
        if self._x.dtype.kind != "f":
            raise DataError(
                f"{data}: must be floating point in mV, got {self._x.dtype}, which looks like ADC"
                " units or microvolt"
            )
        y = _open(labels)
        if y.ndim != 2 or len(y) != len(self._x):
            raise DataError(
                f"{labels}: must have shape ({len(self._x)}, classes) to go with {data.name}, got"
                f" {y.shape}"
            )
        if y.dtype.kind not in "fiub":
            raise DataError(f"{labels}: must be numbers, got {y.dtype}")
        self.labels = torch.from_numpy(np.array(y, dtype=np.float32))
        if not self.labels.isfinite().all():
            raise DataError(f"{labels}: holds NaN or infinite values")
        names = default_class_names(y.shape[1]) if class_names is None else tuple(class_names)
        if len(names) != y.shape[1]:
            raise ValueError(
                f"NpyDataset: {len(names)} class names for the {y.shape[1]} columns of {labels}"
            )
        self.class_names = names
        self._cache: Tensor | None = None
        spread = np.unique(np.linspace(0, len(self._x) - 1, _SAMPLED).round().astype(int))
        check_leads(self._x[spread], self._stored, fs, name=str(data))

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        i = self._position(index)
        if self._cache is not None:
            return self._cache[i], self.labels[i]
        return torch.from_numpy(self._read(slice(i, i + 1))[0]), self.labels[i]

    def load(self) -> tuple[Tensor, Tensor]:
        """All records as ``(x (n, 12, L), y (n, classes))`` float32, kept in memory."""
        if self._cache is None:
            x = np.empty(self._x.shape, np.float32)
            for start in range(0, len(x), 1024):
                rows = slice(start, start + 1024)
                x[rows] = self._read(rows)
            self._cache = torch.from_numpy(x)
        return self._cache, self.labels

    def _read(self, rows: slice) -> np.ndarray:
        x = np.asarray(self._x[rows], dtype=np.float32)
        bad = ~np.isfinite(x).all(axis=(1, 2))
        if bad.any():
            record = rows.start + int(np.flatnonzero(bad)[0])
            raise DataError(f"{self.path}: record {record} holds NaN or infinite values")
        return reorder_leads(x, self._stored, LEADS)


def find_npy(folder: Path, split: str = "train") -> Path | None:
    """The folder's array of signals for a split, or ``None``."""
    for prefix in _PREFIXES:
        path = folder / f"{prefix}{split}_data.npy"
        if path.is_file():
            return path
    return None


def _find(folder: Path, split: str, kind: str) -> Path:
    path = find_npy(folder, split)
    if path is None:
        names = " nor ".join(f"{prefix}{split}_{kind}.npy" for prefix in _PREFIXES)
        there = sorted(p.name for p in folder.glob("*.npy"))
        raise MissingDataError(
            f"{folder} holds neither {names}"
            + (f"; it has {', '.join(there[:8])}" if there else "; it has no npy file")
        )
    return path


def _open(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise MissingDataError(f"{path} does not exist") from None
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} is not a numeric npy array that can be read: {error}") from None

"""One door to all kinds of data: what ``--data PATH`` means."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ecgcore.data.base import ArrayDataset, ECGDataset, MissingDataError
from ecgcore.data.classes import SUPERCLASSES
from ecgcore.data.leads import LEADS
from ecgcore.data.npy import NpyDataset, find_npy
from ecgcore.data.ptbxl import PTBXL, is_ptbxl
from ecgcore.data.simulate import simulate
from ecgcore.errors import DataError

SOURCES: tuple[str, ...] = ("ptbxl", "npy", "simulate")

_FOLDS = {"train": range(1, 9), "val": [9], "test": [10], "all": range(1, 11)}
_STREAM = {"train": 0, "val": 1, "test": 2, "all": 3}  # disjoint simulations of one seed


def open_dataset(
    path: str | os.PathLike[str],
    split: str = "train",
    *,
    source: str | None = None,
    fs: int = 100,
    task: str = "superclass",
    folds: Iterable[int] | None = None,
    keep_unlabelled: bool = False,
    n: int = 1500,
    seconds: float = 10.0,
    seed: int = 0,
) -> ECGDataset:
    """Open PTB-XL, a folder of npy arrays, or simulated records.

    Args:
        path: a folder, or ``"simulate"``.
        split: ``"train"``, ``"val"`` or ``"test"``; ``"all"`` for PTB-XL and simulations.
        source: ``"ptbxl"``, ``"npy"`` or ``"simulate"``; by default what the folder holds.
        fs: sampling rate in Hz.
        task, folds, keep_unlabelled: see :class:`PTBXL`; by default the split's folds, 1..8, 9 and
            10.
        n, seconds, seed: number, duration and seed of simulated records; splits differ.

    Raises:
        DataError: a folder that is none of these; whatever the data set itself raises.
    """
    if split not in _FOLDS:
        raise ValueError(f"open_dataset: split must be train, val, test or all, got {split!r}")
    if source is None:
        source = detect(path)
    if source == "simulate":
        if not 0 <= seed < 2**62:
            raise ValueError(f"open_dataset: seed must lie in 0..2^62-1, got {seed}")
        x, y = simulate(n, seed + (_STREAM[split] << 62), fs=fs, seconds=seconds)
        return ArrayDataset(x, y, leads=LEADS, fs=fs, class_names=SUPERCLASSES)
    if source == "ptbxl":
        chosen = _FOLDS[split] if folds is None else folds
        return PTBXL(path, fs, chosen, task, keep_unlabelled=keep_unlabelled)
    if source == "npy":
        return NpyDataset(path, split, fs=fs)
    raise ValueError(f"open_dataset: source must be one of {', '.join(SOURCES)}, got {source!r}")


def detect(path: str | os.PathLike[str]) -> str:
    """Which of ``SOURCES`` a path is: the word ``simulate``, or what the folder holds."""
    if os.fspath(path) == "simulate":
        return "simulate"
    folder = Path(path)
    if not folder.is_dir():
        raise MissingDataError(
            f"{folder} does not exist; give a folder with PTB-XL or npy arrays, or the word"
            " simulate"
        )
    if is_ptbxl(folder):
        return "ptbxl"
    if any(find_npy(folder, split) for split in ("train", "val", "test")):
        return "npy"
    there = sorted(p.name for p in folder.iterdir())
    raise DataError(
        f"{folder} holds neither PTB-XL (ptbxl_database.csv) nor train_data.npy or"
        " ptbxl_train_data.npy;"
        f" it has {', '.join(there[:6]) or 'nothing'}"
    )

"""Arguments and small services that several commands share."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ecgcore import _native, data, report
from ecgcore.errors import DataError, EcgcoreError
from ecgcore.sampling import ECGBatch

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells report it."""


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where to compute (default: CUDA if it can be used, else CPU)",
    )


def resolve_device(name: str) -> torch.device:
    """The device for ``--device name``; asking for CUDA where it cannot run says why."""
    why_not = _native.why_no_cuda()
    if name == "cuda" and why_not is not None:
        raise EcgcoreError(f"--device cuda: {why_not}")
    return torch.device("cuda" if name != "cpu" and why_not is None else "cpu")


def whole_number(least: int) -> Callable[[str], int]:
    """An argparse type: an integer of at least ``least``."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"expected an integer >= {least}, got {text!r}")
        return value

    return parse


def positive(text: str) -> float:
    """An argparse type: a finite number above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number > 0, got {text!r}")
    return value


def number(text: str) -> float:
    """An argparse type: a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}")
    return value


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise if ``path`` is there, unless ``force``: nothing is overwritten without being asked."""
    if path.exists() and not force:
        raise EcgcoreError(f"{path} exists; choose another --out, or --force")


def refuse_occupied(folder: Path, *, force: bool) -> None:
    """As ``refuse_existing``, for a folder that may exist if it is empty."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() and not folder.is_dir():
        raise EcgcoreError(f"{folder} is a file; choose another --out")
    if folder.exists() and not force:
        raise EcgcoreError(f"{folder} holds files; choose another --out, or --force")


def write_sheets(
    batch: ECGBatch, folder: Path, suffixes: tuple[str, ...] = (".png", ".svg")
) -> None:
    """Every record as an ECG sheet ``003_MI+CD``, in the formats of ``suffixes``."""
    for i in tqdm(range(len(batch)), desc="sheets", unit="record"):
        label = batch.names(i)
        name = f"{i:03d}_{re.sub(r'[^A-Za-z0-9.+-]', '_', label)}"
        for suffix in suffixes:
            report.ecg_sheet(
                batch.x[i].numpy(),
                batch.fs,
                folder / f"{name}{suffix}",
                leads=batch.leads,
                title=batch.title(i),
            )


def read_array(path: Path) -> tuple[np.ndarray, float | None, tuple[str, ...]]:
    """``(x, fs, leads)`` of an .npy or .npz: x in mV, fs in Hz if the file says it, leads those of
    the reference's npy files unless it says otherwise.

    Raises:
        DataError: no such file, or none that holds signals.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        loaded = np.load(path, allow_pickle=False, mmap_mode="r" if path.suffix == ".npy" else None)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: not a readable array ({error})") from None
    if isinstance(loaded, np.ndarray):
        return loaded, None, data.REFERENCE_LEADS
    with loaded:
        for entry, per_millivolt in (("x", 1.0), ("x_uV", 1000.0)):
            if entry in loaded:
                x = np.asarray(loaded[entry], dtype=np.float32) / np.float32(per_millivolt)
                fs = float(loaded["fs"]) if "fs" in loaded else None
                if "leads" in loaded:
                    return x, fs, data.parse_leads([str(name) for name in loaded["leads"]])
                return x, fs, data.REFERENCE_LEADS
        raise DataError(f"{path}: holds neither x nor x_uV but {', '.join(loaded.files)}")

"""Draw a record as an ECG sheet (25 mm/s, 10 mm/mV), PNG or SVG.

FILE is an array (.npy or .npz; one record (12, L) or several (n, 12, L), in mV) or a WFDB record
(name with or without .hea). Arrays are taken in the order of the reference's npy files unless
--leads says otherwise; in an .npz, entry x (mV) or x_uV (microvolt).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ecgcore import data, report
from ecgcore.cli.common import positive, refuse_existing, whole_number
from ecgcore.errors import DataError

_ORDERS = {"reference": data.REFERENCE_LEADS, "ptbxl": data.LEADS}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")
    parser.add_argument(
        "--out", metavar="SHEET", help=".png or .svg (default: FILE's name with .png)"
    )
    parser.add_argument("--force", action="store_true", help="overwrite an existing sheet")
    parser.add_argument(
        "--index", type=whole_number(0), default=0, metavar="I", help="which record (default: 0)"
    )
    parser.add_argument("--fs", type=positive, metavar="HZ", help="of an array (default: 100)")
    parser.add_argument("--leads", choices=tuple(_ORDERS), help="row order of an array")
    parser.add_argument("--title", default=None)
    parser.add_argument(
        "--real", action="store_true", help="a recorded ECG: leave out the mark 'SYNTHETIC'"
    )


def run(arguments: argparse.Namespace) -> int:
    path = Path(arguments.file)
    out = Path(arguments.out) if arguments.out is not None else path.with_suffix(".png")
    if out.suffix not in (".png", ".svg"):
        raise DataError(f"{out}: a sheet is written as .png or .svg")
    refuse_existing(out, force=arguments.force)
    x, fs, leads = read_record(path, arguments.index, arguments.fs, arguments.leads)
    title = arguments.title if arguments.title is not None else path.stem
    report.ecg_sheet(x, fs, out, leads=leads, title=title, synthetic=not arguments.real)
    print(out)
    return 0


def read_record(
    path: Path, index: int = 0, fs: float | None = None, order: str | None = None
) -> tuple[np.ndarray, float, tuple[str, ...]]:
    """One record of a file as ``(x (leads, L) mV, fs in Hz, leads)``.

    Raises:
        DataError: no such file or record, or an array that is not leads by samples.
    """
    if path.suffix not in (".npy", ".npz"):
        if fs is not None or order is not None or index:
            raise DataError(f"{path}: --fs, --leads and --index are for arrays, not WFDB records")
        record = data.read_record(path)
        return record.millivolts(), float(record.fs), tuple(record.names)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    x, rate, leads = _read_array(path)
    if order is not None:
        leads = _ORDERS[order]
    if x.ndim == 2:
        x = x[None]
    if x.ndim != 3 or x.shape[1] != len(leads):
        raise DataError(
            f"{path}: expected an array (n, {len(leads)}, L) or ({len(leads)}, L), got {x.shape}"
        )
    if index >= len(x):
        raise DataError(f"{path}: has {len(x)} records, --index {index} is not among them")
    return x[index], fs if fs is not None else rate, leads


def _read_array(path: Path) -> tuple[np.ndarray, float, tuple[str, ...]]:
    try:
        loaded = np.load(path, allow_pickle=False, mmap_mode="r" if path.suffix == ".npy" else None)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: not a readable array ({error})") from None
    if isinstance(loaded, np.ndarray):
        return loaded, 100.0, data.REFERENCE_LEADS
    with loaded:
        for entry, per_millivolt in (("x", 1.0), ("x_uV", 1000.0)):
            if entry in loaded:
                x = np.asarray(loaded[entry], dtype=np.float32) / np.float32(per_millivolt)
                fs = float(loaded["fs"]) if "fs" in loaded else 100.0
                if "leads" in loaded:
                    return x, fs, data.parse_leads([str(name) for name in loaded["leads"]])
                return x, fs, data.REFERENCE_LEADS
        raise DataError(f"{path}: holds neither x nor x_uV but {', '.join(loaded.files)}")

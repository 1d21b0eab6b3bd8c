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
from ecgcore.cli.common import positive, read_array, refuse_existing, whole_number
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
    x, rate, leads = read_array(path)
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
    return x[index], fs or rate or 100.0, leads

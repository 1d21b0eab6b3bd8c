"""Hold generated ECGs against real ones: distances of sets, spectra, beats.

REAL is a folder with PTB-XL or npy arrays, SYNTHETIC one that ecgcore sample has written; either
may be an array (.npy, with its labels beside it, or .npz). Real records are compared with synthetic
ones of the same labels, in batches, over all and within each class. With --baseline they are
compared with other real records too: no figure says much without that.

The folder --out gets evaluation.json and evaluation.html.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ecgcore import data, metrics
from ecgcore.cli.common import positive, read_array, refuse_occupied, whole_number
from ecgcore.cli.evaluate_report import summary, write_report
from ecgcore.data.check import check_leads
from ecgcore.data.npy import find_npy
from ecgcore.errors import DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("real", metavar="REAL")
    parser.add_argument("synthetic", metavar="SYNTHETIC")
    parser.add_argument(
        "--split",
        default="test",
        metavar="NAME",
        help="of REAL: train, val or test (default: test)",
    )
    parser.add_argument(
        "--synthetic-split",
        default="train",
        metavar="NAME",
        help="of SYNTHETIC: train, val, test, or N for data_N.npy (default: train)",
    )
    parser.add_argument(
        "--baseline",
        nargs="?",
        const="",
        metavar="PATH",
        help="other real records to compare with; without PATH those of REAL that models are "
        "trained on",
    )
    parser.add_argument(
        "--baseline-split", default="train", metavar="NAME", help="(default: train)"
    )
    parser.add_argument(
        "--metrics",
        metavar="mmd,psd_mmd,...",
        help=f"of {', '.join(metrics.METRICS)} (default: all of signals but the warped ones, and "
        "those of features if they are given)",
    )
    parser.add_argument(
        "--features",
        nargs="+",
        metavar="FILE",
        help="features (n, d) of the real, the synthetic and the baseline records, .npy each "
        "(default: those that lie beside the signals)",
    )
    parser.add_argument(
        "--batch-size", type=whole_number(2), default=256, metavar="N", help="(default: 256)"
    )
    parser.add_argument(
        "--pairs",
        type=whole_number(1),
        default=1000,
        metavar="N",
        help="pairs of a batch that dtw and discrete_frechet look at (default: 1000)",
    )
    parser.add_argument(
        "--fs", type=positive, metavar="HZ", help="of arrays that do not say it (default: 100)"
    )
    parser.add_argument("--seed", type=whole_number(0), default=0, metavar="N", help="(default: 0)")
    parser.add_argument("--out", metavar="DIR", default="evaluation", help="(default: evaluation)")
    parser.add_argument("--force", action="store_true", help="write into a folder that has files")


def run(arguments: argparse.Namespace) -> int:
    out = Path(arguments.out)
    refuse_occupied(out, force=arguments.force)
    fs = arguments.fs or 100.0
    sets = {
        "real": read_records(arguments.real, arguments.split, fs),
        "synthetic": read_records(arguments.synthetic, arguments.synthetic_split, fs),
    }
    if arguments.baseline is not None:
        path = arguments.baseline or arguments.real
        sets["baseline"] = read_records(path, arguments.baseline_split, fs)
    if arguments.features is not None:
        sets = with_features(sets, arguments.features)
    sets, names = with_common_classes(sets)
    rates = {name: found.fs for name, found in sets.items()}
    if len(set(rates.values())) > 1:
        raise DataError(
            "sampling rates differ: " + ", ".join(f"{n} {r:g} Hz" for n, r in rates.items())
        )
    found = metrics.evaluate(
        sets["real"].records,
        sets["synthetic"].records,
        baseline=sets["baseline"].records if "baseline" in sets else None,
        fs=rates["real"],
        class_names=names,
        metrics=None if arguments.metrics is None else arguments.metrics.split(","),
        batch_size=arguments.batch_size,
        pairs=arguments.pairs,
        seed=arguments.seed,
        progress=tell if sys.stderr.isatty() else None,
    )
    if sys.stderr.isatty():
        tell("")
        print("\r", end="", file=sys.stderr, flush=True)
    out.mkdir(parents=True, exist_ok=True)
    found.to_json(out / "evaluation.json")
    signals = {name: s.records.x for name, s in sets.items()}
    write_report(found, signals, rates["real"], out / "evaluation.html")
    print(summary(found))
    print(out / "evaluation.html")
    return 0


@dataclass(frozen=True)
class Set:
    """Records of one path, leads in the order of ``data.LEADS``."""

    records: metrics.Records
    fs: float
    class_names: tuple[str, ...] | None


def read_records(where: str, split: str, fs: float) -> Set:
    """A folder's split or one array with the labels beside it."""
    path = Path(where)
    if path.is_dir() and split.isdecimal():
        path = path / f"data_{split}.npy"
    if path.suffix not in (".npy", ".npz"):
        dataset = data.open_dataset(where, split)
        signals, y = dataset.load()
        file = find_npy(path, split) if isinstance(dataset, data.NpyDataset) else None
        features = None if file is None else read_beside(file, "features")
        records = metrics.Records(signals.numpy(), y.numpy(), features)
        return Set(records, dataset.fs, dataset.class_names)
    x, rate, leads = read_array(path)
    if x.ndim != 3 or x.shape[1] != len(leads):
        raise DataError(f"{path}: expected an array (n, {len(leads)}, L), got {x.shape}")
    array = data.reorder_leads(np.asarray(x, dtype=np.float32), leads, data.LEADS)
    if not np.isfinite(array).all():
        raise DataError(f"{path}: holds NaN or infinite values")
    check_leads(array[:64], data.LEADS, rate or fs, name=str(path))
    labels = read_labels(path, len(array))
    names = None if labels is None else data.default_class_names(labels.shape[1])
    records = metrics.Records(array, labels, read_beside(path, "features"))
    return Set(records, rate or fs, names)


def read_labels(path: Path, n: int) -> np.ndarray | None:
    """``y`` of an .npz, or the .npy that the field keeps beside signals; ``None`` without one."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as loaded:
            y = np.asarray(loaded["y"]) if "y" in loaded else None
    else:
        y = read_beside(path, "labels")
    if y is not None and (y.ndim != 2 or len(y) != n or y.dtype.kind not in "fiub"):
        raise DataError(
            f"{path}: its labels must have shape ({n}, classes), got {y.dtype} {y.shape}"
        )
    return None if y is None else y.astype(np.float32)


def read_beside(path: Path, kind: str) -> np.ndarray | None:
    """The ``labels`` or ``features`` that the field's scripts name after the file of signals."""
    name = re.sub(r"(?:data|samples)(?=(?:_\d+)?\.npy$)", kind, path.name)
    source = path.with_name(name)
    return read_matrix(source) if name != path.name and source.is_file() else None


def read_matrix(path: Path) -> np.ndarray:
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: not a readable array ({error})") from None
    if not isinstance(found, np.ndarray):
        raise DataError(f"{path}: expected one array, found several")
    return found


def with_features(sets: dict[str, Set], files: list[str]) -> dict[str, Set]:
    if len(files) != len(sets):
        raise DataError(
            f"--features: expected a file for each of {', '.join(sets)}, got {len(files)}"
        )
    return {
        name: replace(found, records=replace(found.records, features=read_matrix(Path(file))))
        for (name, found), file in zip(sets.items(), files, strict=True)
    }


def with_common_classes(sets: dict[str, Set]) -> tuple[dict[str, Set], tuple[str, ...] | None]:
    """The sets and the names of their classes; without labels where one set has none."""
    if any(found.records.labels is None for found in sets.values()):
        bare = {
            name: replace(found, records=replace(found.records, labels=None))
            for name, found in sets.items()
        }
        return bare, None
    names = sets["real"].class_names
    for name, found in sets.items():
        if found.class_names != names:
            raise DataError(
                f"classes differ: real has {', '.join(names or ())}, {name} "
                f"{', '.join(found.class_names or ())}"
            )
    return sets, names


def tell(text: str) -> None:
    print(f"\r{text:60.60s}", end="", file=sys.stderr, flush=True)

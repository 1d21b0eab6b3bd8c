"""Generated records beside real ones: every figure, and that of two real sets beside it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ecgcore.data.files import write_file
from ecgcore.data.quality import judge
from ecgcore.errors import DataError
from ecgcore.metrics.batches import matched, stratified_folds
from ecgcore.metrics.information import nmi
from ecgcore.metrics.pairs import frechet_distance, mmd, prd, rmse
from ecgcore.metrics.spectra import psd
from ecgcore.metrics.warping import discrete_frechet, dtw

Progress = Callable[[str], None]

SIGNAL_METRICS = ("mmd", "psd_mmd", "psd_prd", "prd", "rmse", "nmi")
"""Of signals, by default."""
WARPED_METRICS = ("dtw", "discrete_frechet")
"""Of signals, on request, over pairs drawn by lot: each takes a table of all samples by all."""
FEATURE_METRICS = ("fid", "kid")
"""Of features that the caller brings."""
METRICS = (*SIGNAL_METRICS, *WARPED_METRICS, *FEATURE_METRICS)


@dataclass(frozen=True)
class Records:
    """One set of records.

    Args:
        x: ``(n, leads, L)`` in mV.
        labels: ``(n, classes)``, multi-hot or soft (above 0 is on), or ``None``.
        features: ``(n, d)`` of some model, or ``None``.
    """

    x: np.ndarray
    labels: np.ndarray | None = None
    features: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.x.ndim != 3 or 0 in self.x.shape:
            raise DataError(f"evaluate: x must have shape (n, leads, L), got {self.x.shape}")
        for name, value in (("labels", self.labels), ("features", self.features)):
            if value is not None and (value.ndim != 2 or len(value) != len(self.x)):
                raise DataError(
                    f"evaluate: {name} must have shape ({len(self.x)}, ...) to go with x, got "
                    f"{value.shape}"
                )

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: np.ndarray) -> Records:
        return Records(
            self.x[rows],
            None if self.labels is None else self.labels[rows],
            None if self.features is None else self.features[rows],
        )


@dataclass(frozen=True)
class Figure:
    """A metric over batches."""

    metric: str
    group: str
    """``"all"``, or a class."""
    compared: str
    """``"synthetic"`` or ``"baseline"``: what the real records were held against."""
    mean: float
    std: float | None
    """Over batches, with ``n - 1``; ``None`` for a single one."""
    batches: int
    records: int


@dataclass
class Evaluation:
    """What :func:`evaluate` found."""

    figures: list[Figure] = field(default_factory=list)
    signals: dict[str, dict[str, Any]] = field(default_factory=dict)
    """:func:`ecgcore.data.quality.judge` of each set of records."""
    notes: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    def figure(self, metric: str, group: str = "all", compared: str = "synthetic") -> Figure | None:
        """The figure, or ``None``."""
        key = metric, group, compared
        return next((f for f in self.figures if (f.metric, f.group, f.compared) == key), None)

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write all of it, replacing a file in one go."""
        write_file(Path(path), (json.dumps(asdict(self), indent=1) + "\n").encode())


def evaluate(
    real: Records,
    synthetic: Records,
    *,
    baseline: Records | None = None,
    fs: float = 100.0,
    class_names: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    batch_size: int = 256,
    pairs: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Compare generated records with real ones, batch by batch, over all and within each class.

    Real records go in batches of about ``batch_size``: over all, folds that hold every class in its
    share; within a class, its records by lot. Each batch is compared with as many synthetic records
    of the same labels (row by row if both sets have the same labels in the same order), and with as
    many of ``baseline``, other real records, where they are given. No record stands twice in a
    batch as long as they last. Protocol and definitions follow SynthECG's evaluation, whose batches
    are padded to 256 by repeating records; here they are of equal sizes.

    Args:
        real, synthetic, baseline: with labels all, or none.
        fs: sampling rate in Hz.
        class_names: of the labels; without them figures are over all records only.
        metrics: of :data:`METRICS`; by default those of signals, and those of features if there are
            any.
        batch_size: largest number of records in a batch.
        pairs: how many pairs of a batch ``dtw`` and ``discrete_frechet`` are taken over.
        seed: of the batches.
        progress: told what is computed.

    Raises:
        DataError: sets that do not go together, NaN.
        ValueError: an unknown metric, or one without what it needs.
    """
    chosen = _choose(metrics, [real, synthetic, *([] if baseline is None else [baseline])])
    if batch_size < 2:
        raise ValueError(f"evaluate: batch_size must be at least 2, got {batch_size}")
    if pairs < 1:
        raise ValueError(f"evaluate: pairs must be at least 1, got {pairs}")
    found = Evaluation(
        settings={"fs": fs, "batch_size": batch_size, "seed": seed, "records": len(real)}
    )
    others = {"synthetic": synthetic} | ({} if baseline is None else {"baseline": baseline})
    for name, records in others.items():
        _fit(real, records, name)
    say = progress or (lambda text: None)
    say("signals")
    found.signals = {
        name: judge(records.x, fs, real=real.x)
        for name, records in {"real": real, **others}.items()
    }
    groups = _groups(real, class_names, batch_size, np.random.default_rng(seed), found.notes)
    for compared, records in others.items():
        rng = np.random.default_rng(seed)
        partner = _partners(real, records, rng, compared, found.notes)
        for group, batches in groups:
            say(f"{group}, against {compared}")
            values = [
                _compare(real.take(rows), records.take(partner[rows]), chosen, fs, pairs, rng)
                for rows in batches
            ]
            found.figures += [
                _figure(metric, group, compared, values, sum(map(len, batches)))
                for metric in values[0]
            ]
    return found


def _choose(metrics: Sequence[str] | None, sets: Sequence[Records]) -> tuple[str, ...]:
    featured = all(records.features is not None for records in sets)
    if metrics is None:
        return (*SIGNAL_METRICS, *(FEATURE_METRICS if featured else ()))
    for metric in metrics:
        if metric not in METRICS:
            raise ValueError(f"evaluate: no metric {metric!r}; there are {', '.join(METRICS)}")
        if metric in FEATURE_METRICS and not featured:
            raise ValueError(f"evaluate: {metric} needs features of every set of records")
    return tuple(metrics)


def _fit(real: Records, other: Records, name: str) -> None:
    for what, a, b in (
        ("leads", real.x.shape[1], other.x.shape[1]),
        ("samples", real.x.shape[2], other.x.shape[2]),
        ("labels", *(None if r.labels is None else r.labels.shape[1] for r in (real, other))),
        ("features", *(None if r.features is None else r.features.shape[1] for r in (real, other))),
    ):
        if a != b and not (what == "features" and None in (a, b)):
            raise DataError(
                f"evaluate: the real records have {a or 'no'} {what}, those compared ({name}) "
                f"{b or 'none'}"
            )
    if min(len(real), len(other)) < 2:
        raise DataError("evaluate: at least two records of each kind are needed")


def _partners(
    real: Records, other: Records, rng: np.random.Generator, name: str, notes: list[str]
) -> np.ndarray:
    """For each real record the row of ``other`` it goes with."""
    if real.labels is None or other.labels is None:
        turns = -(-len(real) // len(other))
        rows = np.concatenate([rng.permutation(len(other)) for _ in range(turns)])[: len(real)]
    elif np.array_equal(real.labels > 0, other.labels > 0):
        return np.arange(len(real))
    else:
        rows, off = matched(real.labels, other.labels, rng)
        if off:
            notes.append(
                f"{off} of {len(real)} real records have no counterpart with the same labels among "
                f"the {name} ones: the nearest labels were taken"
            )
    if len(np.unique(rows)) < len(rows):
        notes.append(
            f"there are too few {name} records for {len(real)} real ones: some are used again"
        )
    return rows


def _groups(
    real: Records,
    class_names: Sequence[str] | None,
    batch_size: int,
    rng: np.random.Generator,
    notes: list[str],
) -> list[tuple[str, list[np.ndarray]]]:
    n = len(real)
    count = min(math.ceil(n / batch_size), n // 2)  # of two at least
    labels = np.ones((n, 1)) if real.labels is None else real.labels
    groups = [("all", [f for f in stratified_folds(labels, count, rng) if len(f) > 1])]
    if real.labels is None or class_names is None:
        return groups
    if len(class_names) != real.labels.shape[1]:
        raise DataError(
            f"evaluate: {len(class_names)} class names for labels of {real.labels.shape[1]} classes"
        )
    for c, name in enumerate(class_names):
        rows = rng.permutation(np.flatnonzero(real.labels[:, c] > 0))
        if len(rows) < 2:
            notes.append(f"{name}: {len(rows)} real records, left out")
            continue
        parts = min(math.ceil(len(rows) / batch_size), len(rows) // 2)
        groups.append((name, np.array_split(rows, parts)))
    return groups


def _compare(
    real: Records,
    other: Records,
    metrics: Sequence[str],
    fs: float,
    pairs: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    found: dict[str, float] = {}

    def of_spectra(distance: Callable[[Any, Any], float]) -> float:
        return distance(psd(real.x, fs), psd(other.x, fs))

    simple: Mapping[str, Callable[[], float]] = {
        "mmd": lambda: mmd(real.x, other.x),
        "psd_mmd": lambda: of_spectra(mmd),
        "psd_prd": lambda: of_spectra(prd),
        "prd": lambda: prd(real.x, other.x),
        "rmse": lambda: rmse(real.x, other.x),
        "fid": lambda: frechet_distance(_features(real), _features(other)),
        "kid": lambda: mmd(_features(real), _features(other)),
        "dtw": lambda: _of_pairs(dtw, real.x, other.x, pairs, rng),
        "discrete_frechet": lambda: _of_pairs(discrete_frechet, real.x, other.x, pairs, rng),
    }
    for metric in metrics:
        if metric == "nmi":
            apart = np.triu_indices(real.x.shape[1], 1)
            a, b = (nmi(records.x).mean(0).numpy()[apart] for records in (real, other))
            found["nmi_real"], found["nmi"] = float(a.mean()), float(b.mean())
            found["nmi_difference"] = float(np.abs(a - b).mean())
        else:
            found[metric] = simple[metric]()
    return found


def _features(records: Records) -> np.ndarray:
    assert records.features is not None  # looked at in _choose
    return records.features


def _of_pairs(
    distance: Callable[[np.ndarray, np.ndarray], Any],
    x: np.ndarray,
    y: np.ndarray,
    pairs: int,
    rng: np.random.Generator,
) -> float:
    """Mean over at most ``pairs`` pairs: of some records of each set, drawn by lot."""
    columns = min(len(y), max(1, math.isqrt(pairs)))
    rows = min(len(x), max(1, pairs // columns))
    i, j = rng.permutation(len(x))[:rows], rng.permutation(len(y))[:columns]
    return float(distance(x[i], y[j]).mean())


def _figure(
    metric: str, group: str, compared: str, values: Sequence[Mapping[str, float]], records: int
) -> Figure:
    numbers = np.array([v[metric] for v in values])
    std = float(numbers.std(ddof=1)) if len(numbers) > 1 else None
    return Figure(metric, group, compared, float(numbers.mean()), std, len(numbers), records)

"""What ``ecgcore evaluate`` prints, and the page it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ecgcore import report
from ecgcore.data import quality
from ecgcore.metrics import Evaluation, Figure

NAMES = {
    "mmd": "MMD² of signals",
    "psd_mmd": "MMD² of spectra",
    "psd_prd": "PRD of spectra, %",
    "prd": "PRD of signals, %",
    "rmse": "RMSE, mV",
    "nmi_real": "leads' mutual information, real",
    "nmi": "leads' mutual information, compared",
    "nmi_difference": "difference of these, mean over pairs of leads",
    "dtw": "dynamic time warping, mV",
    "discrete_frechet": "discrete Fréchet distance, mV",
    "fid": "Fréchet distance of features",
    "kid": "MMD² of features",
}
_READING = (
    "MMD² is 0 for sets that cannot be told apart and may come out as 0 by chance. PRD over all "
    "pairs of independent recordings is 141.4 whatever their quality: it only shows collapse, as "
    "does an RMSE below that of two real sets. Mean ± standard deviation over batches.",
    "Read each figure beside the same of two sets of real records (--baseline). None of them "
    "measures disease, nor whether training records were copied.",
)


def summary(found: Evaluation) -> str:
    """A line for each metric over all records, and the notes."""
    lines = [f"{'':<46}{'synthetic':>22}{'baseline':>22}"]
    for name, *cells in _rows(found, "all"):
        lines.append(f"{name:<46}" + "".join(f"{cell or '':>22}" for cell in cells))
    return "\n".join([*lines, *found.notes])


def write_report(
    found: Evaluation, signals: Mapping[str, np.ndarray], fs: float, path: Path
) -> None:
    """The page. ``signals``: ``(n, leads, L)`` in mV by name."""
    groups = list(dict.fromkeys(figure.group for figure in found.figures))
    columns = ("", "synthetic", "baseline (real)")
    sections = [
        report.Section(
            "All records",
            [report.Table(columns, _rows(found, "all")), *_READING, *found.notes],
        ),
        report.Section(
            "By signal statistics",
            [_signal_table(found), report.Figure(report.spectra_svg(dict(signals), fs))],
        ),
    ]
    if groups[1:]:
        tables = [
            report.Table(columns, _rows(found, group), caption=_size(found, group))
            for group in groups[1:]
        ]
        sections.append(report.Section("By class", tables))
    n = {name: len(x) for name, x in signals.items()}
    lead = ", ".join(f"{count} {name}" for name, count in n.items()) + " records."
    report.html_report(path, sections, title="Generated ECGs beside real ones", lead=lead)


def _rows(found: Evaluation, group: str) -> list[list[object]]:
    rows: list[list[object]] = []
    for metric, name in NAMES.items():
        figures = [found.figure(metric, group, compared) for compared in ("synthetic", "baseline")]
        if figures[0] is not None:
            rows.append([name, *map(_cell, figures)])
    return rows


def _cell(figure: Figure | None) -> str | None:
    if figure is None:
        return None
    spread = "" if figure.std is None else f" ± {figure.std:.2g}"
    return f"{figure.mean:.4g}{spread}"


def _size(found: Evaluation, group: str) -> str:
    figure = next(f for f in found.figures if f.group == group)
    return f"{group}: {figure.records} records in {figure.batches} batches"


def _signal_table(found: Evaluation) -> report.Table:
    kinds: Sequence[str] = list(found.signals)
    rows = [
        [name, *(found.signals[kind][key] for kind in kinds)] for key, name in quality.NAMES.items()
    ]
    return report.Table(["", *kinds], rows)

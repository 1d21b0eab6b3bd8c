"""Error against length, and time against L, N and H, of the kernel-generating ops and what they
replace: ``python bench/curves.py --json PATH [--op OP]``, then with ``--plot docs/curves.svg``.

A run adds its op to the file, so that each op can be measured in a quiet minute of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import rows
from measure import Row, measure
from ops import environment

SIZES = {
    "L": (64, 250, 1000, 4000, 16000, 64000),
    "N": (8, 16, 32, 64, 128, 256),
    "H": (16, 64, 256, 1024),
}
BASE = {"H": 64, "N": 32, "L": 1000}
UNFUSED = 64 * 32 * 16384
"""Beyond this product of H, N and L the unfused expressions take gigabytes: they are left out."""
FEATURES = 4
"""On which errors are measured: float64 truth is unfused too."""

Rows = Callable[[str, bool, int, int, int], Iterable[Row]]
OPS: dict[str, Rows] = {
    "cauchy": rows.cauchy_rows,
    "nplr_kernel": rows.nplr_rows,
    "vandermonde": rows.vandermonde_rows,
    "diag_kernel": rows.diag_rows,
}


@dataclass(frozen=True)
class Point:
    """One backend at one size: ``axis`` is the size that varies, ``size`` its value."""

    axis: str
    size: int
    backend: str
    ms: float
    error: float


def points(op: str, keops: bool, rounds: int) -> Iterable[Point]:
    for axis, sizes in SIZES.items():
        for size in sizes:
            given = BASE | {axis: size}
            row = next(iter(OPS[op]("cpu", keops, given["H"], given["N"], given["L"])))
            if given["H"] * given["N"] * given["L"] > UNFUSED:
                row = replace(row, variants=[v for v in row.variants if v.backend != "naive torch"])
            for m in measure(row, rounds, "cpu", FEATURES):
                yield Point(axis, size, m.backend, m.ms, m.error)


def plot(curves: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """A row of charts for each op: error over L, then time over L, N and H."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    # Text as text, and nothing in the file that changes from run to run.
    pyplot.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "ecgcore", "font.size": 8})
    style = {
        "ecgcore": ("#c0392b", "o"),
        "naive torch": ("#7f8c8d", "s"),
        "KeOps": ("#2471a3", "^"),
    }
    figure, axes = pyplot.subplots(
        len(curves), 4, figsize=(10, 2.3 * len(curves)), squeeze=False, layout="constrained"
    )
    for row, (op, found) in zip(axes, curves.items(), strict=True):
        charts = [("L", "error"), ("L", "ms"), ("N", "ms"), ("H", "ms")]
        for chart, (axis, quantity) in zip(row, charts, strict=True):
            for backend, (color, marker) in style.items():
                line = [p for p in found if p["axis"] == axis and p["backend"] == backend]
                x, y = [p["size"] for p in line], [p[quantity] for p in line]
                chart.loglog(x, y, color=color, marker=marker, markersize=3, lw=1, label=backend)
            chart.set_xlabel(axis)
            chart.set_title(f"{op}: {'error' if quantity == 'error' else 'ms'}", fontsize=8)
            chart.minorticks_off()
            chart.grid(True, lw=0.3)
    axes[0, 0].legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file of the figures, added to")
    parser.add_argument("--op", choices=tuple(OPS), help="measure only this op")
    parser.add_argument("--plot", type=Path, metavar="SVG", help="draw the file, measure nothing")
    parser.add_argument("--no-keops", action="store_true", help="leave KeOps out")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)
    report = {"curves": {}}
    if arguments.json.exists():
        report = json.loads(arguments.json.read_text(encoding="utf-8"))
    if arguments.plot is not None:
        plot(report["curves"], arguments.plot)
        return 0
    report["environment"] = environment("cpu")
    report["sizes"] = BASE
    for op in [arguments.op] if arguments.op else OPS:
        found = [vars(p) for p in points(op, not arguments.no_keops, arguments.rounds)]
        report["curves"][op] = found
        print(f"{op}: {len(found)} points", file=sys.stderr)
    arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

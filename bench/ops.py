"""Times the ops against what they replace: ``python bench/ops.py [--quick] [--json PATH]
[--scaling]``.

Variants of a row run interleaved in one process, after their numbers were held against float64
truth; the table gives medians, ratios to ecgcore and the memory each needs beyond its inputs. See
README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import ecgcore
from measure import Measured, measure, scaling
from rows import OPS, rows, series


def environment(device: str) -> dict[str, Any]:
    """Where and when: what a figure needs beside it."""
    here = Path(__file__).resolve().parent
    commit = subprocess.run(
        ["git", "-C", here, "describe", "--always", "--dirty"], capture_output=True, text=True
    ).stdout.strip()
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = {
            ln.split(":")[1].strip() for ln in info.read_text().splitlines() if "model name" in ln
        }
        cpu = ", ".join(sorted(models)) or cpu
    stamp = {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "commit": commit or "unknown",
        "ecgcore": ecgcore.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu": cpu,
        "isa": ecgcore.backends()["cpu"]["isa"],
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "device": device,
    }
    if device.startswith("cuda"):
        stamp["gpu"] = torch.cuda.get_device_name(device)
        stamp["cuda"] = torch.version.cuda
    return stamp


def table(measured: Iterable[Measured]) -> str:
    lines = [
        "| op | shape | task | backend | median ms | x ecgcore | peak MB | error |",
        "|-|-|-|-|-:|-:|-:|-:|",
    ]
    lines += [
        f"| {m.op} | {m.shape} | {m.task} | {m.backend} | {m.ms:.3g} | {m.ratio:.3g} | "
        f"{m.peak_mb:.3g} | {m.error:.0e} |"
        for m in measured
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--op", choices=OPS, help="only this op")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes and few rounds: a smoke test"
    )
    parser.add_argument("--rounds", type=int, help="timed rounds of every row")
    parser.add_argument("--no-keops", action="store_true", help="leave KeOps out")
    parser.add_argument("--scaling", action="store_true", help="slopes in H, N, L and B instead")
    parser.add_argument("--json", metavar="PATH", help="write figures and surroundings to PATH")
    arguments = parser.parse_args(argv)
    rounds = arguments.rounds or (3 if arguments.quick else 9)
    stamp = environment(arguments.device)
    print(", ".join(f"{k} {v}" for k, v in stamp.items()), file=sys.stderr)
    report: dict[str, Any] = {"environment": stamp}
    if arguments.scaling:
        report["scaling"] = []
        for one in series(arguments.op, arguments.device):
            found = scaling(one, rounds, arguments.device)
            report["scaling"].append(asdict(found))
            times = ", ".join(
                f"{size}: {ms:.3g} ms" for size, ms in zip(found.sizes, found.ms, strict=True)
            )
            print(f"{one.name}: {found.slope:.2f} ({times}; fixed {found.fixed:.0%})", flush=True)
    else:
        measured: list[Measured] = []
        keops = not arguments.no_keops
        for row in rows(arguments.op, arguments.device, arguments.quick, keops):
            measured += measure(row, rounds, arguments.device)
        print(table(measured))
        report["rows"] = [asdict(m) for m in measured]
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

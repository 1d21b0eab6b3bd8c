"""Times whole runs of sampling with models of published size, from the file to the ECGs:
``python bench/runs.py [--model sssd] [--json PATH]``.

A checkpoint with untrained weights, whose arithmetic is that of a trained one, is loaded and
sampled. Each run is timed once, all it does included: ``prepare``, noise, twelve leads of eight.
``load`` is what comes before.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ecgcore
from ops import environment
from sampling import MODELS, built


@dataclass(frozen=True)
class Run:
    records: int
    sampler: str
    steps: int
    precision: str


RUNS = (
    Run(1, "ddpm", 200, "fp32"),
    Run(1, "dpm++", 20, "fp32"),
    Run(1, "dpm++", 20, "bf16"),
    Run(8, "dpm++", 20, "fp32"),
    Run(8, "dpm++", 20, "bf16"),
)


@dataclass(frozen=True)
class Timed:
    model: str
    blocks: int
    run: Run
    seconds: float


def timed(name: str, blocks: int | None, device: str, runs: Sequence[Run]) -> Iterator[Timed]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        ecgcore.save(built(name, blocks, "cpu"), path)
        start = time.perf_counter()
        model: Any = ecgcore.load(path, device=device)
        print(f"{name}: load {time.perf_counter() - start:.2f} s")
        for run in runs:
            model.compiled.clear()  # each run prepares for itself
            options = {"sampler": run.sampler, "steps": run.steps, "precision": run.precision}
            start = time.perf_counter()
            model.sample(n=run.records, seed=0, **options)
            seconds = time.perf_counter() - start
            yield Timed(name, len(model.residual_layer.residual_blocks), run, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, action="append", help="(default: all)")
    parser.add_argument("--blocks", type=int, help="of the model, for a quick look")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    result = environment(arguments.device)
    found: list[Timed] = []
    for name in arguments.model or MODELS:
        for row in timed(name, arguments.blocks, arguments.device, RUNS):
            found.append(row)
            r = row.run
            print(
                f"| {name} | {row.blocks} | {r.records} | {r.sampler} | {r.steps} | {r.precision} "
                f"| {row.seconds:.2f} s |",
                flush=True,
            )
    if arguments.json:
        result |= {"runs": [asdict(row) for row in found]}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Quality of what a model was not trained for: other lengths, another rate, leads that are kept.

    python bench/uses.py --data PTBXL --run RUN [--json PATH]

The model is that of ``bench/samplers.py``: a small SSSD-ECG trained on real records, 2.5 s at 100
Hz. ``--run`` is its run folder, finished. docs/sampling.md explains the figures.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import ecgcore
from ecgcore import data
from ecgcore.sampling import keep
from ecgcore.train import open_dataset
from ecgcore.train.launch import read_records
from ops import environment
from samplers import Judge, small_plan, tell, windows

FIGURES = ("psd_db", "std_ratio", "qrs_height", "qrs_width", "heart_rate_ok", "beat_correlation")
CHEST = slice(6, 12)


def resampled(x: Tensor, length: int) -> Tensor:
    """``x (..., L)`` in ``length`` samples of the same time, by its Fourier coefficients."""
    spectrum = torch.fft.rfft(x.double())[..., : length // 2 + 1]
    return (torch.fft.irfft(spectrum, n=length) * (length / x.shape[-1])).float()


def likeness(x: Tensor, real: Tensor) -> float:
    """Median over records and chest leads of the correlation with the real lead."""
    a, b = (s[:, CHEST] - s[:, CHEST].mean(-1, keepdim=True) for s in (x, real))
    r = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))
    return float(r.median())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="PTBXL", help="real records")
    parser.add_argument("--run", required=True, type=Path, help="folder of the trained model")
    parser.add_argument("-n", type=int, default=40, help="records drawn (default: 40)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()

    model: Any = ecgcore.load(arguments.run)
    plan = small_plan(arguments.data)
    seen = read_records(plan, model)
    held_out = [
        read_records(plan, model, open_dataset(plan.data, split)) for split in ("val", "test")
    ]
    unseen = windows(held_out, arguments.n, seed=0)
    judged = Judge(windows([seen], 4 * arguments.n, seed=100), unseen, seen.fs)
    length = unseen.x.shape[-1]
    eight = [data.LEADS.index(name) for name in seen.lead_names]

    rows = []
    for name, options in (
        ("as trained", {}),
        ("length, 2 times", {"length": 2 * length}),
        ("length, 4 times", {"length": 4 * length}),
        ("rate 0.5", {"rate": 0.5}),
        ("rate 0.2", {"rate": 0.2}),
    ):
        tell(name)
        x = model.sample(unseen.y, seed=1, **options).x[:, eight]
        if "rate" in options:
            x = resampled(x, length)
        found = judged(x, unseen.y)
        rows.append({"drawn": name} | {key: found[key] for key in FIGURES})

    real = data.to_twelve_leads(unseen.x, basis=plan.data.basis, order="ptbxl")
    kept = keep("I,II", length=length, fs=seen.fs)
    again = []
    for name, options in (
        ("ddpm, nothing kept", {}),
        ("ddpm", {"known": real, "mask": kept}),
        (
            "ddim, 50 steps, eta 1",
            {"known": real, "mask": kept, "sampler": "ddim", "steps": 50, "eta": 1},
        ),
        ("dpm++, 20 steps", {"known": real, "mask": kept, "sampler": "dpm++", "steps": 20}),
    ):
        tell(name)
        x = model.sample(unseen.y, seed=1, **options).x
        again.append({"drawn": name, "chest_correlation": likeness(x, real)})
    tell("")
    for row in (*rows, *again):
        cells = (f"{v:.2f}" if isinstance(v, float) else v for v in row.values())
        print("| " + " | ".join(cells) + " |")
    if arguments.json:
        result = environment("cpu") | {"drawn": arguments.n, "rows": rows, "kept": again}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

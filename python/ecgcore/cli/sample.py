"""Draw ECGs from a trained model: npy files and ECG sheets.

CHECKPOINT is a run folder, a .safetensors file or a reference checkpoint (.pkl). The folder --out
gets the signals and labels in the reference's npy layout, and a sheet of every record as PNG and
SVG. Record i depends on the seed and i alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ecgcore import checkpoint
from ecgcore.cli.common import (
    add_device,
    refuse_occupied,
    resolve_device,
    whole_number,
    write_sheets,
)
from ecgcore.sampling import sample


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument(
        "--labels",
        metavar="MI,NORM,MI+CD",
        help="classes, in turn; '+' joins classes of one record (default: each class in turn)",
    )
    parser.add_argument(
        "-n", type=whole_number(1), metavar="N", help="records in all (default: one per label)"
    )
    parser.add_argument("--out", metavar="DIR", default="samples", help="(default: samples)")
    parser.add_argument("--force", action="store_true", help="write into a folder that has files")
    parser.add_argument("--seed", type=whole_number(0), metavar="N", help="(default: drawn)")
    parser.add_argument("--steps", type=whole_number(1), metavar="N", help="model evaluations")
    parser.add_argument("--sampler", default="ddpm", metavar="NAME", help="(default: ddpm)")
    parser.add_argument("--length", type=whole_number(1), metavar="L", help="samples per record")
    parser.add_argument("--config", metavar="JSON", help="what a foreign checkpoint cannot tell")
    parser.add_argument("--no-sheets", action="store_true", help="write the npy files alone")
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    out = Path(arguments.out)
    refuse_occupied(out, force=arguments.force)
    model = checkpoint.load(
        arguments.checkpoint,
        config=arguments.config,
        device=resolve_device(arguments.device),
    )
    labels = arguments.labels.split(",") if arguments.labels is not None else None
    batch = sample(
        model,
        labels=labels,
        n=arguments.n,
        steps=arguments.steps,
        seed=arguments.seed,
        length=arguments.length,
        sampler=arguments.sampler,
        progress=True,
    )
    batch.to_npy(out)
    if not arguments.no_sheets:
        write_sheets(batch, out)
    print(f"{out}: {len(batch.x)} records, seed {batch.seed}")
    return 0

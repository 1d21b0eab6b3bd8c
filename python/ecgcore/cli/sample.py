"""Draw ECGs from a trained model: npy files and ECG sheets.

CHECKPOINT is a run folder, a .safetensors file or a reference checkpoint (.pkl). The folder --out
gets the signals and labels in the reference's npy layout, and a sheet of each of the first records
as PNG and SVG. Record i depends on the seed and i alone.

Records are written as they are made, however many. After Ctrl-C or a kill the same command goes on
with what is missing. Under torchrun the processes share the records.
"""

from __future__ import annotations

import argparse
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from ecgcore import checkpoint, data
from ecgcore.cli.common import (
    add_device,
    number,
    positive,
    read_array,
    refuse_occupied,
    resolve_device,
    whole_number,
    write_sheets,
)
from ecgcore.engine import PRECISIONS
from ecgcore.errors import DataError, EcgcoreError
from ecgcore.sampling import keep
from ecgcore.sampling.batch import SPLITS
from ecgcore.sampling.channels import leads_of
from ecgcore.sampling.options import STARTS
from ecgcore.sampling.runs import sample_to, unfinished
from ecgcore.train import connect

SHEETS = 20
"""Records that get a sheet unless said otherwise."""

PATIENCE = timedelta(days=7)
"""How much later than the first the last process may be done."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument(
        "--labels",
        metavar="MI,NORM,MI+CD",
        help="classes, in turn; '+' joins classes of one record; or an .npy with a row of class "
        "weights per record (default: each class in turn)",
    )
    parser.add_argument(
        "-n", type=whole_number(1), metavar="N", help="records in all (default: one per label)"
    )
    parser.add_argument("--out", metavar="DIR", default="samples", help="(default: samples)")
    parser.add_argument(
        "--split",
        type=npy_names,
        default="train",
        metavar="NAME",
        help="names of the npy files: train, val or test; or a checkpoint's number N, for "
        "data_N.npy and labels_N.npy as SynthECG's evaluation reads them (default: train)",
    )
    parser.add_argument("--force", action="store_true", help="write into a folder that has files")
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on with the run in --out if it was stopped (default), or start it anew",
    )
    parser.add_argument("--seed", type=whole_number(0), metavar="N", help="(default: drawn)")
    parser.add_argument("--batch-size", type=whole_number(1), metavar="N", help="(default: 16)")
    parser.add_argument("--config", metavar="JSON", help="what a foreign checkpoint cannot tell")
    parser.add_argument(
        "--sheets",
        type=whole_number(0),
        default=SHEETS,
        metavar="N",
        help=f"draw sheets of the first N records (default: {SHEETS})",
    )
    parser.add_argument(
        "--no-sheets", action="store_const", dest="sheets", const=0, help="the npy files alone"
    )
    add_device(parser)
    how = parser.add_argument_group("how to draw (docs/sampling.md)")
    how.add_argument("--steps", type=whole_number(1), metavar="N", help="model evaluations")
    how.add_argument("--sampler", default="ddpm", metavar="NAME", help="ddpm, ddim or dpm++")
    how.add_argument("--eta", type=number, default=0.0, metavar="X", help="noise of ddim, 0 to 1")
    how.add_argument(
        "--start",
        "--start-from",  # torchrun takes --start for an abbreviation of an option of its own
        choices=STARTS,
        default="normal",
        help="(default: normal)",
    )
    how.add_argument(
        "--eager", action="store_true", help="on a GPU: no CUDA graph, each kernel by itself"
    )
    how.add_argument("--precision", choices=PRECISIONS, default="fp32", help="(default: fp32)")
    how.add_argument(
        "--guidance", type=number, default=1.0, metavar="W", help="weight of the label (default: 1)"
    )
    how.add_argument("--length", type=whole_number(1), metavar="L", help="samples per record")
    how.add_argument(
        "--rate",
        type=positive,
        default=1.0,
        metavar="R",
        help="step of the samples: 0.2 draws 500 Hz with a model of 100 Hz (default: 1)",
    )
    how.add_argument(
        "--known",
        metavar="FILE",
        help="ECGs to keep parts of: .npy or .npz (12, L) or (n, 12, L) in mV, or a WFDB record",
    )
    how.add_argument(
        "--keep", metavar="I,II,0-5s", help="what of --known: leads, seconds of all, or both"
    )


def run(arguments: argparse.Namespace) -> int:
    out = Path(arguments.out)
    with connect(resolve_device(arguments.device), patience=PATIENCE) as world:
        if world.first and not unfinished(out):
            refuse_occupied(out, force=arguments.force)
        model = checkpoint.load(arguments.checkpoint, config=arguments.config, device=world.device)
        made = sample_to(
            out,
            model,
            read_labels(arguments.labels),
            arguments.n,
            seed=arguments.seed,
            batch_size=arguments.batch_size,
            split=arguments.split,
            resume=arguments.resume,
            overwrite=arguments.force,
            world=world,
            progress=True,
            steps=arguments.steps,
            sampler=arguments.sampler,
            eta=arguments.eta,
            start=arguments.start,
            precision=arguments.precision,
            guidance=arguments.guidance,
            length=arguments.length,
            rate=arguments.rate,
            eager=arguments.eager,
            **what_is_kept(arguments.known, arguments.keep, model.card, arguments.rate),
        )
        first = world.first
    if first:
        if arguments.sheets:
            write_sheets(made.first(arguments.sheets), out)
        print(f"{out}: {made.count} records, seed {made.seed}")
    return 0


def npy_names(text: str) -> str | int:
    """``--split``: a split, or the number of a checkpoint."""
    if text in SPLITS:
        return text
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(
        f"expected train, val, test or the number of a checkpoint, got {text!r}"
    )


def read_labels(text: str | None) -> list[str] | np.ndarray | None:
    """``--labels``: names, or the rows of a file."""
    if text is None or not text.endswith(".npy"):
        return None if text is None else text.split(",")
    try:
        rows = np.load(text, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"--labels: {text} is not a readable array ({error})") from None
    if rows.ndim != 2 or rows.dtype.kind not in "fiub":
        raise DataError(
            f"--labels: expected rows of class weights (k, classes) in {text}, got {rows.dtype} "
            f"{rows.shape}"
        )
    return rows.astype(np.float32)


def what_is_kept(file: str | None, words: str | None, card: Any, rate: float) -> dict[str, Any]:
    """``known`` and ``mask`` for ``--known`` and ``--keep``."""
    if file is None and words is None:
        return {}
    if file is None or words is None:
        raise EcgcoreError("--known FILE and --keep WHAT go together")
    path, fs = Path(file), card.fs / rate
    x: np.ndarray
    if path.suffix in (".npy", ".npz"):
        x, given, leads = read_array(path)
    else:
        record = data.read_record(path)
        x, given, leads = record.millivolts(), float(record.fs), data.parse_leads(record.names)
    if given is not None and given != fs:
        raise DataError(f"--known: {file} has {given:g} Hz, the records to be drawn {fs:g} Hz")
    wanted = leads_of(card.lead_names)
    if wanted == data.LEADS:
        x = data.reorder_leads(x, leads, data.LEADS)
    return {"known": x, "mask": keep(words, leads=wanted, length=x.shape[-1], fs=fs)}

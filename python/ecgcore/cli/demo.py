"""Train a small SSSD-ECG in minutes, draw ECGs of every class, and put it all in one report.

Without --data the records are simulated, so nothing need be downloaded; --data PATH takes PTB-XL
as published. The folder --out gets the run, the drawn ECGs and report.html, which needs no other
file. Stopped with Ctrl-C, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from importlib import resources
from pathlib import Path

from torch import Tensor

from ecgcore import data
from ecgcore.cli.common import (
    INTERRUPTED,
    add_device,
    positive,
    refuse_existing,
    resolve_device,
    whole_number,
)
from ecgcore.cli.demo_report import Demo, write_report
from ecgcore.cli.train import TrainingBar
from ecgcore.diffusion.launch import Plan, train
from ecgcore.errors import DataError
from ecgcore.sampling import sample
from ecgcore.train import World, load_records, open_dataset, read_log
from ecgcore.train.records import Dataset, simulated

UNSEEN = 100
"""Records to compare with, at most."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="PATH", help="PTB-XL folder (default: simulated ECGs)")
    parser.add_argument("--out", metavar="DIR", default="demo", help="(default: demo)")
    parser.add_argument("--force", action="store_true", help="overwrite an existing report")
    parser.add_argument("--config", metavar="JSON", help="instead of the demo's own config")
    parser.add_argument("--seed", type=whole_number(0), default=0, metavar="N")
    parser.add_argument(
        "-n", type=whole_number(1), default=20, metavar="N", help="ECGs to draw (default: 20)"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--max-minutes", type=positive, metavar="M", help="training time")
    length.add_argument(
        "--max-steps", type=whole_number(1), metavar="N", help="training steps, for a fixed result"
    )
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    began = time.perf_counter()
    out = Path(arguments.out)
    page = out / "report.html"
    refuse_existing(page, force=arguments.force)
    plan = demo_plan(arguments)

    print("1/3 training a small SSSD-ECG", file=sys.stderr)
    with TrainingBar() as bar:
        model, progress = train(
            plan,
            out / "run",
            world=World(device=resolve_device(arguments.device)),
            callback=bar.step,
            reading=bar.reading,
        )
    if progress.interrupted:
        print(f"stopped after step {progress.step}; the same command goes on", file=sys.stderr)
        return INTERRUPTED

    print("2/3 drawing ECGs from white noise", file=sys.stderr)
    drawing_began = time.perf_counter()
    batch = sample(model, n=arguments.n, seed=arguments.seed, batch_size=arguments.n, progress=True)
    drawing_seconds = time.perf_counter() - drawing_began
    batch.to_npy(out)

    print("3/3 writing the report", file=sys.stderr)
    real, labels, seen = to_compare_with(plan)
    demo = Demo(
        plan=plan,
        batch=batch,
        real=real,
        real_labels=labels,
        real_was_seen=seen,
        log=read_log(out / "run"),
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        training_seconds=progress.seconds,
        drawing_seconds=drawing_seconds,
    )
    verdict = write_report(demo, page)
    print(f"{verdict}\n{page}, {time.perf_counter() - began:.0f} s")
    return 0


def demo_plan(arguments: argparse.Namespace) -> Plan:
    """The demo's config with what the command line changes."""
    if arguments.config is not None:
        plan = Plan.read(arguments.config)
    else:
        text = resources.files("ecgcore.cli").joinpath("demo.json").read_text(encoding="utf-8")
        plan = Plan.read(json.loads(text))
    limits = {"max_minutes": arguments.max_minutes, "max_steps": arguments.max_steps}
    if any(limits.values()):  # instead of the config's limit, not beside it
        limits = {"epochs": None, "n_iters": None, **limits}
        plan = Plan(plan.model, replace(plan.train, **limits), plan.data)
    plan = plan.replace(seed=arguments.seed)
    if arguments.data is not None:
        plan = plan.replace(data={"source": None, "data_directory": arguments.data})
    return plan


def to_compare_with(plan: Plan) -> tuple[Tensor, Tensor, bool]:
    """Records ``(n, 12, L)`` in mV cut as in training, their labels, and whether they were trained
    on.

    Simulated anew, or of the folds that training leaves out; a folder without such has none but
    those trained on.
    """
    config, model = plan.data, plan.model["model"]
    dataset: Dataset
    seen = False
    if config.data_directory is None:
        dataset = simulated(replace(config, records=UNSEEN), config.seed + 1)
    else:
        try:
            dataset = open_dataset(config, split="test")
        except DataError:
            dataset, seen = open_dataset(config), True
    records = load_records(
        dataset, config, channels=model["in_channels"], classes=model["label_embed_classes"]
    )
    x, labels = records.batch(0, min(len(records), UNSEEN), seed=1)
    x = x / records.scale
    if len(records.lead_names) == 8:
        return data.to_twelve_leads(x, basis=config.basis, order="ptbxl"), labels, seen
    return data.reorder_leads(x, records.lead_names, data.LEADS), labels, seen

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
from typing import Any, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ecgcore import data, diffusion
from ecgcore.cli.common import (
    INTERRUPTED,
    add_device,
    positive,
    refuse_existing,
    resolve_device,
    whole_number,
)
from ecgcore.cli.demo_report import Demo, Draw, write_report
from ecgcore.cli.train import TrainingBar
from ecgcore.diffusion import NoiseSchedule
from ecgcore.diffusion.starts import class_starts
from ecgcore.errors import DataError
from ecgcore.sampling import ECGBatch, sample
from ecgcore.train import Records, World, open_dataset, read_log
from ecgcore.train.launch import Plan, build_model, read_records, train
from ecgcore.train.records import Dataset, simulated

UNSEEN = 100
"""Records to compare with, at most."""

START = 0.6
"""Where drawing from the classes' Gaussians begins, as a part of the noise schedule."""


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
        model = build_model(plan)
        plan = replace(plan, model=cast(dict[str, Any], model.config))
        records = read_records(plan, model, None, bar.reading, limit=plan.data.records)
        model, progress = train(
            plan,
            out / "run",
            data=records,
            world=World(device=resolve_device(arguments.device)),
            callback=bar.step,
        )
    if progress.interrupted:
        print(f"stopped after step {progress.step}; the same command goes on", file=sys.stderr)
        return INTERRUPTED

    print("2/3 drawing ECGs", file=sys.stderr)
    draws = [
        draw_from_noise(plan, model, arguments.n, arguments.seed),
        draw_from_classes(plan, model, records, arguments.n, arguments.seed),
    ]
    draws[0].batch.to_npy(out / "white_noise")
    draws[1].batch.to_npy(out / "class_gaussian")

    print("3/3 writing the report", file=sys.stderr)
    real, labels, seen = to_compare_with(plan, model)
    demo = Demo(
        plan=plan,
        draws=draws,
        real=real,
        real_labels=labels,
        real_was_seen=seen,
        records=len(records),
        log=read_log(out / "run"),
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        training_seconds=progress.seconds,
    )
    print(write_report(demo, page))
    print(f"{page}, {time.perf_counter() - began:.0f} s")
    return 0


def draw_from_noise(plan: Plan, model: nn.Module, n: int, seed: int) -> Draw:
    """``n`` ECGs, each class in turn, from white noise: what ``model.sample`` does."""
    began = time.perf_counter()
    batch = sample(model, n=n, seed=seed, batch_size=n, progress=True)
    return Draw("white noise", batch, plan.model["diffusion"]["T"], time.perf_counter() - began)


def draw_from_classes(plan: Plan, model: nn.Module, records: Records, n: int, seed: int) -> Draw:
    """``n`` ECGs, each class in turn, from the Gaussians of the classes' training segments."""
    began = time.perf_counter()
    schedule = NoiseSchedule.linear(**plan.model["diffusion"])
    first = round(START * schedule.T) - 1
    random = torch.Generator().manual_seed(seed)
    labels = torch.eye(len(records.class_names))[torch.arange(n) % len(records.class_names)]
    start = class_starts(*records.batch(0, len(records), seed), labels, first, schedule, random)
    model.eval()
    with tqdm(total=first + 1, desc=f"{n} records", unit="step") as bar:
        x = diffusion.sample(
            model,
            (n, start.shape[1], start.shape[2]),
            labels,
            schedule,
            generator=random,
            start=(first, start),
            callback=lambda i, t, x, eps: bar.update(),
        )
    batch = ECGBatch(
        twelve_leads(x, records), data.LEADS, records.fs, labels, records.class_names, seed
    )
    return Draw("class Gaussian", batch, first + 1, time.perf_counter() - began)


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
        plan = replace(plan, train=replace(plan.train, **limits))
    plan = plan.replace(seed=arguments.seed)
    if arguments.data is not None:
        plan = plan.replace(data={"source": None, "data_directory": arguments.data})
    return plan


def to_compare_with(plan: Plan, model: nn.Module) -> tuple[Tensor, Tensor, bool]:
    """Records ``(n, 12, L)`` in mV cut as in training, their labels, and whether they were trained
    on.

    Simulated anew, or of the folds that training leaves out; a folder without such has none but
    those trained on.
    """
    config = plan.data
    dataset: Dataset
    seen = False
    if config.data_directory is None:
        dataset = simulated(replace(config, records=UNSEEN), config.seed + 1)
    else:
        try:
            dataset = open_dataset(config, split="test")
        except DataError:
            dataset, seen = open_dataset(config), True
    records = read_records(plan, model, dataset, limit=UNSEEN)
    x, labels = records.batch(0, len(records), seed=1)
    return twelve_leads(x, records), labels, seen


def twelve_leads(x: Tensor, records: Records) -> Tensor:
    """``x (n, channels, L)`` in model units as twelve leads in mV, as ``data.LEADS``."""
    x = x / records.scale
    for basis, leads in data.BASES.items():
        if records.lead_names == leads:
            return data.to_twelve_leads(x, basis=basis, order="ptbxl")
    return data.reorder_leads(x, records.lead_names, data.LEADS)

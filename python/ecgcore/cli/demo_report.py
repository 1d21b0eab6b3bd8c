"""The page that ``ecgcore demo`` writes: real beside generated, figures, and how it was made."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import ecgcore
from ecgcore import report
from ecgcore.data.quality import NAMES, THRESHOLDS, judge
from ecgcore.sampling import ECGBatch
from ecgcore.train.launch import Plan


@dataclass(frozen=True)
class Draw:
    """ECGs drawn from one kind of start, in ``steps`` evaluations of the model each."""

    start: str
    batch: ECGBatch
    steps: int
    seconds: float


@dataclass(frozen=True)
class Demo:
    """What the report tells about."""

    plan: Plan
    draws: Sequence[Draw]
    real: Tensor
    """Records to compare with, ``(n, 12, L)`` in mV, cut as in training."""
    real_labels: Tensor
    real_was_seen: bool
    """Whether they were trained on, for want of others."""
    records: int
    """Number of records trained on."""
    log: Sequence[Mapping[str, Any]]
    parameters: int
    training_seconds: float


def write_report(demo: Demo, path: Path) -> str:
    """Write the page and return its verdict, a line for each start."""
    fs = demo.draws[0].batch.fs
    found = {d.start: judge(d.batch.x, fs, real=demo.real) for d in demo.draws}
    beside = judge(demo.real, fs, real=demo.real)
    verdicts = [_verdict(start, figures) for start, figures in found.items()]
    seen = "the model was trained on" if demo.real_was_seen else "the model has never seen"
    spectra = {"real": demo.real.numpy()}
    spectra |= {f"from {d.start}": d.batch.x.numpy() for d in demo.draws}
    losses = [(line["step"], line["loss"]) for line in demo.log]
    sections = [
        report.Section(
            "Real beside generated",
            [
                f"For each class a record {seen}, then drawn ones: {_explain(demo)}",
                *_rows_of_sheets(demo),
            ],
        ),
        report.Section(
            "Judged by signal statistics",
            [
                _judgement(found, beside),
                "These figures find failures (no rhythm, faded waves, noise left over). They do "
                "not measure diversity or disease.",
            ],
        ),
        report.Section(
            "Training and spectra",
            [
                report.Row(
                    [
                        report.Figure(report.loss_svg(*zip(*losses, strict=True))),
                        report.Figure(report.spectra_svg(spectra, fs)),
                    ]
                )
            ],
        ),
        report.Section("How it was made", [report.Table(("", ""), _recipe(demo))]),
    ]
    seconds = demo.real.shape[-1] / fs
    lead = (
        f"{losses[-1][0]} training steps on {_source(demo)} in {demo.training_seconds:.0f} s, "
        f"then {len(demo.draws[0].batch)} ECGs of {seconds:g} s from each start."
    )
    report.html_report(
        path, sections, title="A small SSSD-ECG, trained here", lead=" ".join([lead, *verdicts])
    )
    return "\n".join(verdicts)


def _source(demo: Demo) -> str:
    folder = demo.plan.data.data_directory
    return f"{demo.records} {'simulated ECGs' if folder is None else f'records of {folder}'}"


def _explain(demo: Demo) -> str:
    """What each start gives the model."""
    T = demo.plan.model["diffusion"]["T"]
    texts = {
        "white noise": "from white noise, all {T} denoising steps, where the model decides "
        "everything",
        "class Gaussian": "from a draw of the Gaussian (mean and covariance) of the class's "
        "training segments, noised, and {steps} of {T} denoising steps. Class and place of the "
        "first beat then come from that start, not from the model alone",
    }
    return "; ".join(texts[d.start].format(steps=d.steps, T=T) for d in demo.draws) + "."


def _rows_of_sheets(demo: Demo) -> list[report.Row]:
    """A row for each class: a real record and one of each start."""
    rows = []
    fs = demo.draws[0].batch.fs
    for c, name in enumerate(demo.draws[0].batch.class_names):
        only = (demo.real_labels[:, c] > 0) & (demo.real_labels.sum(1) == 1)
        figures = [
            _sheet(demo.real[i], fs, f"{name}, real", synthetic=False)
            for i in only.nonzero().flatten().tolist()[:1]
        ]
        for d in demo.draws:
            of_class = (d.batch.labels[:, c] > 0).nonzero().flatten().tolist()
            figures += [_sheet(d.batch.x[i], fs, f"{name}, from {d.start}") for i in of_class[:1]]
        if figures:
            rows.append(report.Row(figures))
    return rows


def _sheet(x: Tensor, fs: float, caption: str, *, synthetic: bool = True) -> report.Figure:
    return report.Figure(
        report.sheet_svg(x.numpy(), fs, title=caption, synthetic=synthetic), caption
    )


def _judgement(found: Mapping[str, Mapping[str, Any]], beside: Mapping[str, Any]) -> report.Table:
    columns = ["", "real"]
    for start in found:
        columns += [f"from {start}", ""]
    rows: list[list[object]] = []
    for key, name in NAMES.items():
        row: list[object] = [name, beside[key]]
        for figures in found.values():
            met = figures["passed"].get(key)
            row += [figures[key], "" if met is None else "met" if met else "missed"]
        low, high = THRESHOLDS.get(key, (None, None))
        wanted = ""
        if low is not None and high is not None:
            wanted = f"at least {low:g}" if high == 1.0 else f"{low:g} to {high:g}"
        rows.append([*row, wanted])
    return report.Table([*columns, "should be"], rows)


def _verdict(start: str, figures: Mapping[str, Any]) -> str:
    passed = figures["passed"]
    missed = [NAMES[key] for key, met in passed.items() if not met]
    text = f"From {start}, {len(passed) - len(missed)} of {len(passed)} figures are within limits"
    return f"{text}; missed: {'; '.join(missed)}." if missed else f"{text}."


def _recipe(demo: Demo) -> list[tuple[str, str]]:
    model, diffusion = demo.plan.model["model"], demo.plan.model["diffusion"]
    train, data = demo.plan.train, demo.plan.data
    steps = demo.log[-1]["step"]
    return [
        ("model", f"SSSD-ECG, {model['num_res_layers']} blocks, {model['res_channels']} channels"),
        ("parameters", f"{demo.parameters:,} trained"),
        ("records", f"{_source(demo)}, segments of {data.segment_length} samples"),
        ("noise schedule", f"{diffusion['T']} steps, beta to {diffusion['beta_T']:g}"),
        (
            "training",
            f"{steps} steps of {train.batch_size} segments, "
            f"{1000 * demo.training_seconds / steps:.0f} ms each",
        ),
        *(
            (
                f"drawing from {d.start}",
                f"{d.steps} steps for each of {len(d.batch)} ECGs, {d.seconds:.1f} s together, "
                f"seed {d.batch.seed}",
            )
            for d in demo.draws
        ),
        (
            "software",
            f"ecgcore {ecgcore.__version__}, torch {torch.__version__}, "
            f"{ecgcore.backends()['cpu']['isa']} kernels, {torch.get_num_threads()} threads, "
            f"{os.cpu_count()} cores",
        ),
    ]

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
from ecgcore.data.quality import THRESHOLDS, judge
from ecgcore.diffusion.launch import Plan
from ecgcore.sampling import ECGBatch

_FIGURES = {
    "heart_rate": "heart rate, median (per minute)",
    "heart_rate_ok": "share with a rate of 40 to 125",
    "psd_db": "distance of spectra, 1 to 40 Hz (dB)",
    "std_ratio": "amplitude, generated over real",
    "noise_uv": "noise above 30 Hz (µV)",
    "beat_correlation": "likeness of a record's beats",
}


@dataclass(frozen=True)
class Demo:
    """What the report tells about."""

    plan: Plan
    batch: ECGBatch
    real: Tensor
    """Records to compare with, ``(n, 12, L)`` in mV, cut as in training."""
    real_labels: Tensor
    real_was_seen: bool
    """Whether they were trained on, for want of others."""
    log: Sequence[Mapping[str, Any]]
    parameters: int
    training_seconds: float
    drawing_seconds: float


def write_report(demo: Demo, path: Path) -> str:
    """Write the page and return its verdict in a line."""
    x, real = demo.batch.x, demo.real
    found = judge(x, demo.batch.fs, real=real)
    beside = judge(real, demo.batch.fs, real=real)
    verdict = _verdict(found)
    data = demo.plan.data
    simulated = data.data_directory is None
    seconds = x.shape[-1] / demo.batch.fs
    steps = demo.log[-1]["step"]
    seen = "the model was trained on" if demo.real_was_seen else "the model has never seen"
    sections = [
        report.Section(
            "Real beside generated",
            [
                f"Left: a record {seen}. Right: one it drew for the same class.",
                *_pairs(demo),
            ],
        ),
        report.Section(
            "Judged by signal statistics",
            [
                report.Table(
                    ("figure", "generated", "real", "should be", "is"), _rows(found, beside)
                ),
                "These figures find failures (no rhythm, faded waves, noise left over). They do "
                "not measure diversity or disease.",
            ],
        ),
        report.Section(
            "Training and spectra",
            [
                report.Row(
                    [
                        report.Figure(
                            report.loss_svg(
                                [line["step"] for line in demo.log],
                                [line["loss"] for line in demo.log],
                            )
                        ),
                        report.Figure(
                            report.spectra_svg(
                                {"real": real.numpy(), "generated": x.numpy()}, demo.batch.fs
                            )
                        ),
                    ]
                )
            ],
        ),
        report.Section("How it was made", [report.Table(("", ""), _recipe(demo, simulated))]),
    ]
    source = "simulated ECGs" if simulated else f"the records in {data.data_directory}"
    report.html_report(
        path,
        sections,
        title="A small SSSD-ECG, trained here",
        lead=(
            f"{steps} training steps on {source} in {demo.training_seconds:.0f} s, then "
            f"{len(x)} ECGs of {seconds:g} s drawn from white noise by "
            f"{demo.plan.model['diffusion']['T']} denoising steps each. {verdict}"
        ),
    )
    return verdict


def _pairs(demo: Demo) -> list[report.Row]:
    """A row for each class: a real record and a generated one."""
    rows = []
    real, labels = demo.real, demo.real_labels
    for c, name in enumerate(demo.batch.class_names):
        alike = (demo.batch.labels[:, c] > 0.5).nonzero().flatten().tolist()
        only = (labels[:, c] > 0.5) & (labels.sum(1) == 1)
        known = only.nonzero().flatten().tolist()
        figures = []
        if known:
            figures.append(_sheet(real[known[0]], demo.batch.fs, f"{name}, real", synthetic=False))
        if alike:
            figures.append(_sheet(demo.batch.x[alike[0]], demo.batch.fs, f"{name}, generated"))
        if figures and alike:
            rows.append(report.Row(figures))
    return rows


def _sheet(x: Tensor, fs: float, caption: str, *, synthetic: bool = True) -> report.Figure:
    svg = report.sheet_svg(x.numpy(), fs, title=caption, synthetic=synthetic)
    return report.Figure(svg, caption)


def _rows(found: Mapping[str, Any], beside: Mapping[str, Any]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for key, name in _FIGURES.items():
        low, high = THRESHOLDS.get(key, (None, None))
        wanted, verdict = "", ""
        if low is not None and high is not None:
            wanted = f"at least {low:g}" if high == 1.0 else f"{low:g} to {high:g}"
            verdict = "met" if found["passed"].get(key) else "missed"
        rows.append((name, found[key], beside[key], wanted, verdict))
    return rows


def _verdict(found: Mapping[str, Any]) -> str:
    met = sum(found["passed"].values())
    missed = [_FIGURES[key] for key, passed in found["passed"].items() if not passed]
    verdict = f"{met} of {len(found['passed'])} figures are within their limits"
    return f"{verdict}; missed: {'; '.join(missed)}." if missed else f"{verdict}."


def _recipe(demo: Demo, simulated: bool) -> list[tuple[str, str]]:
    model, diffusion = demo.plan.model["model"], demo.plan.model["diffusion"]
    train, data = demo.plan.train, demo.plan.data
    steps = demo.log[-1]["step"]
    source = f"{data.records} simulated records" if simulated else str(data.data_directory)
    return [
        ("model", f"SSSD-ECG, {model['num_res_layers']} blocks, {model['res_channels']} channels"),
        ("parameters", f"{demo.parameters:,} trained"),
        ("records", f"{source}, segments of {data.segment_length} samples"),
        ("noise schedule", f"{diffusion['T']} steps, beta to {diffusion['beta_T']:g}"),
        (
            "training",
            f"{steps} steps of {train.batch_size} segments, "
            f"{1000 * demo.training_seconds / steps:.0f} ms each",
        ),
        ("start of drawing", "white noise; nothing of a record enters but the class"),
        (
            "drawing",
            f"{diffusion['T']} steps for each of {len(demo.batch)} ECGs, "
            f"{demo.drawing_seconds:.1f} s together, seed {demo.batch.seed}",
        ),
        (
            "software",
            f"ecgcore {ecgcore.__version__}, torch {torch.__version__}, "
            f"{ecgcore.backends()['cpu']['isa']} kernels, {torch.get_num_threads()} threads, "
            f"{os.cpu_count()} cores",
        ),
    ]

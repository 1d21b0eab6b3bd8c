"""Quality against steps, start, guidance and precision: every sampler on a small SSSD-ECG trained
on real records.

    python bench/samplers.py --data PTBXL --run RUN [--json PATH]

``--data`` is a folder in the layout of PTB-XL. A run that is not finished is trained first: 1,800
steps of the demo's network with the references' noise schedule and units (mV), one label in ten
taken away, on folds 1 to 8. Records of folds 9 and 10 are what drawn ones are compared with, class
for class. docs/samplers.md explains the figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ecgcore import diffusion
from ecgcore.data.quality import judge, qrs_peaks, welch
from ecgcore.metrics import mmd, squared_distances
from ecgcore.train import Records, open_dataset, read_log
from ecgcore.train.launch import Plan, read_records, train
from ops import environment


@dataclass(frozen=True)
class Way:
    """How to draw. ``start``: as ``model.sample`` has it, or ``"spectra"``."""

    sampler: str
    steps: int
    start: str = "normal"
    guidance: float = 1.0
    precision: str = "fp32"

    @property
    def remark(self) -> str:
        words = [self.start]
        words += [f"guidance {self.guidance:g}"] if self.guidance != 1 else []
        words += [self.precision] if self.precision != "fp32" else []
        return ", ".join(words)


STEPS = {"ddpm": (200,), "ddim": (50, 20, 10), "dpm++": (50, 20, 10, 6)}
WAYS = [
    *(
        Way(sampler, steps, start)
        for sampler, numbers in STEPS.items()
        for steps in numbers
        for start in ("normal", "matched")
    ),
    Way("dpm++", 20, "spectra"),
    *(Way("dpm++", 20, guidance=w) for w in (1.5, 2.0, 4.0)),
    Way("dpm++", 20, precision="bf16"),
    Way("ddpm", 200, precision="bf16"),
]
BANDS = ((1, 5), (5, 15), (15, 40))
"""Hz, of the features"""
FIGURES = {
    "psd_db": ("spectra, dB", 2),
    "mmd": ("1000 MMD²", 1),
    "variety": ("variety", 2),
    "of_class": ("of class", 2),
    "std_ratio": ("std", 2),
    "qrs_height": ("QRS height", 2),
    "qrs_width": ("QRS width", 2),
    "heart_rate_ok": ("rate ok", 2),
    "beat_correlation": ("beats alike", 2),
    "noise_uv": ("noise, µV", 1),
}


def small_plan(folder: str) -> Plan:
    """The demo's network as the references train theirs."""
    text = resources.files("ecgcore.cli").joinpath("demo.json").read_text(encoding="utf-8")
    values = json.loads(text)
    values["diffusion"] |= {"beta_T": 0.02}
    values["dataset"] |= {"scale": 1.0, "data_directory": folder}
    for section, key in (("dataset", "records"), ("dataset", "spread"), ("train", "max_minutes")):
        del values[section][key]  # of simulated records, and a limit by the clock
    values["train"] |= {"max_steps": 1800, "label_dropout": 0.1}
    return Plan.read(values)


@dataclass(frozen=True)
class Real:
    """Windows of real records: ``x (n, channels, L)`` in mV, ``y (n, classes)``."""

    x: Tensor
    y: Tensor


def windows(records: list[Records], n: int, seed: int) -> Real:
    """``n`` windows of all the records, each about as often as another."""
    total = sum(map(len, records))
    parts = [r.batch(0, -(-n * len(r) // total), seed) for r in records]
    x, y = (torch.cat(p)[:n] for p in zip(*parts, strict=True))
    return Real(x, y)


def features(x: np.ndarray, fs: float) -> np.ndarray:
    """Log variance of each channel and log power in :data:`BANDS`, ``(n, 4 channels)``."""
    f, power = welch(x, fs)
    bands = [power[..., (f >= low) & (f < high)].sum(-1) for low, high in BANDS]
    return np.log(np.concatenate([x.var(-1), *bands], axis=1) + 1e-12)


def qrs(x: np.ndarray, fs: float) -> tuple[float, float]:
    """Height and width of the QRS complex, medians over the records ``(n, leads, L)``.

    Height in mV: from lowest to highest within 60 ms of a beat's peak, mean over leads, median over
    beats. Width in ms: how long the slope (RMS over leads, smoothed over 30 ms) stays above 0.3 of
    its height at the peak, to a fraction of a sample.
    """
    reach = round(0.06 * fs)
    heights, widths = [], []
    for record in x:
        slope = np.sqrt(np.mean(np.diff(record, axis=-1) ** 2, axis=0))
        slope = np.convolve(slope, np.ones(3) / 3, mode="same")
        beats = [p for p in qrs_peaks(record, fs) if reach <= p < record.shape[-1] - reach]
        if beats:
            heights.append(
                np.median([np.ptp(record[:, p - reach : p + reach + 1], -1).mean() for p in beats])
            )
            widths.append(np.median([width(slope, p) for p in beats]) / fs * 1000)
    return float(np.median(heights)), float(np.median(widths))


def width(slope: np.ndarray, peak: int) -> float:
    """Samples between the crossings of 0.3 of the slope's height around ``peak``."""
    peak = max(0, peak - 3) + int(slope[max(0, peak - 3) : peak + 4].argmax())
    level = 0.3 * slope[peak]

    def crossing(way: int) -> float:
        i = peak
        while 0 <= i + way < len(slope) and slope[i + way] > level:
            i += way
        if not 0 <= i + way < len(slope):
            return abs(i - peak)
        return abs(i - peak) + float((slope[i] - level) / (slope[i] - slope[i + way]))

    return crossing(1) + crossing(-1)


class Discriminant:
    """Linear discriminant of classes, one share of the covariance for all (Hastie, Tibshirani,
    Friedman, "The Elements of Statistical Learning", 4.3), classes taken as equally frequent."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self.known = [c for c in range(y.shape[1]) if (y[:, c] > 0).sum() > 1]
        parts = [x[y[:, c] > 0] for c in self.known]
        self.means = np.stack([part.mean(0) for part in parts])
        off = np.concatenate([p - mean for p, mean in zip(parts, self.means, strict=True)])
        self.inverse = np.linalg.inv(off.T @ off / len(off) + 0.1 * np.eye(x.shape[1]))

    def share(self, x: np.ndarray, y: np.ndarray) -> float:
        """Of the records ``x``, how many are found to be of one of their classes ``y``."""
        off = x[:, None] - self.means
        distance = np.einsum("ncf,fg,ncg->nc", off, self.inverse, off)
        return float(np.mean(y[np.arange(len(x)), np.array(self.known)[distance.argmin(1)]] > 0))


class Judge:
    """Figures of drawn records beside held-out ones, with the training records' scale."""

    def __init__(self, seen: Real, unseen: Real, fs: float):
        self.fs = fs
        self.real = unseen.x.numpy().astype(np.float64)
        of_seen = features(seen.x.numpy().astype(np.float64), fs)
        self.center, self.scale = of_seen.mean(0), of_seen.std(0)
        self.classes = Discriminant((of_seen - self.center) / self.scale, seen.y.numpy())
        self.features = self._features(self.real)
        d2 = squared_distances(self.features, self.features).numpy()
        apart = np.sqrt(d2[np.triu_indices(len(d2), 1)])
        self.bandwidth = float(np.median(apart))
        self.apart = float(apart.mean())
        self.height, self.width = qrs(self.real, fs)

    def _features(self, x: np.ndarray) -> np.ndarray:
        return (features(x, self.fs) - self.center) / self.scale

    def __call__(self, x: Tensor, y: Tensor) -> dict[str, float]:
        array = x.numpy().astype(np.float64)
        found = judge(array, self.fs, real=self.real)
        own = self._features(array)
        d2 = squared_distances(own, own).numpy()
        height, wide = qrs(array, self.fs)
        return {
            "psd_db": found["psd_db"],
            "mmd": 1000 * mmd(own, self.features, sigma=self.bandwidth, clamp=False),
            "variety": float(np.sqrt(d2[np.triu_indices(len(d2), 1)]).mean() / self.apart),
            "of_class": self.classes.share(own, y.numpy()),
            "std_ratio": found["std_ratio"],
            "qrs_height": height / self.height,
            "qrs_width": wide / self.width,
            "heart_rate_ok": found["heart_rate_ok"],
            "beat_correlation": found["beat_correlation"],
            "noise_uv": found["noise_uv"],
        }


class Spectra:
    """The start with the cross-spectra of all channels of ``x (m, channels, L)``, which is the
    Gaussian of stationary data with any correlation in time and between leads."""

    def __init__(self, x: Tensor):
        self.mean = x.double().mean((0, 2)).unsqueeze(1)
        parts = torch.fft.rfft(x.double() - self.mean, norm="ortho")
        self.spectra = torch.einsum("mcf,mdf->fcd", parts, parts.conj()) / len(x)

    def start(self, noise: Tensor, alpha_bar: float) -> Tensor:
        noised = alpha_bar * self.spectra + (1 - alpha_bar) * torch.eye(noise.shape[1])
        power, basis = torch.linalg.eigh(noised)
        root = (basis * power.sqrt().unsqueeze(-2)) @ basis.mH
        white = torch.fft.rfft(noise.double(), norm="ortho")
        colored = torch.einsum("fcd,bdf->bcf", root, white)
        found = torch.fft.irfft(colored, noise.shape[2], norm="ortho")
        return (alpha_bar**0.5 * self.mean + found).float()


class Draws:
    """Signals for ``labels`` like ``like (m, channels, L)``, of the same noise for every way."""

    def __init__(self, model: torch.nn.Module, plan: Plan, seen: Records, like: Real, y: Tensor):
        self.model, self.labels, self.shape = model, y, (len(y), *like.x.shape[1:])
        self.schedule = diffusion.NoiseSchedule.linear(**plan.model["diffusion"])
        self.moments = diffusion.class_moments(seen.x, seen.y)
        self.spectra = Spectra(like.x)

    def __call__(self, way: Way, seed: int) -> Tensor:
        noise = diffusion.RecordNoise(seed, range(len(self.labels)))
        start: Any = None
        if way.start == "matched":
            start = self.moments.of(self.labels)
        if way.start == "spectra":
            white = torch.empty(self.shape)
            noise.into(white, torch.zeros(1, dtype=torch.int64))
            last = self.schedule.T - 1
            start = last, self.spectra.start(white, float(self.schedule.alpha_bar[last]))
        return diffusion.sample(
            self.model,
            self.shape,
            self.labels,
            self.schedule,
            sampler=way.sampler,
            steps=way.steps,
            noise=noise,
            start=start,
            guidance=way.guidance,
            precision=way.precision,
        )


def summary(values: list[dict[str, float]]) -> dict[str, list[float]]:
    """Mean and standard deviation of each figure over seeds."""
    return {
        key: [
            float(np.mean([v[key] for v in values])),
            float(np.std([v[key] for v in values], ddof=1)),
        ]
        for key in FIGURES
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| sampler | steps | start | " + " | ".join(name for name, _ in FIGURES.values()) + " |",
        "|-|-:|-|" + "-:|" * len(FIGURES),
    ]
    for row in rows:
        cells = [
            f"{row['figures'][key][0]:.{digits}f} ± {row['figures'][key][1]:.{digits}f}"
            for key, (_, digits) in FIGURES.items()
        ]
        steps = row["steps"] or ""
        lines.append(f"| {row['sampler']} | {steps} | {row['start']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="PTBXL", help="real records")
    parser.add_argument("--run", required=True, type=Path, help="folder of the trained model")
    parser.add_argument("-n", type=int, default=60, help="records drawn (default: 60)")
    parser.add_argument("--seeds", type=int, default=3, help="at least 2 (default: 3)")
    parser.add_argument("--sampler", choices=STEPS, action="append", help="only this one")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error(f"--seeds must be at least 2, got {arguments.seeds}")

    plan = small_plan(arguments.data)
    model, progress = train(plan, arguments.run, callback=lambda p: tell(f"step {p.step}"))
    model.eval()
    seen = read_records(plan, model, None)
    held_out = [
        read_records(plan, model, open_dataset(plan.data, split)) for split in ("val", "test")
    ]
    unseen = windows(held_out, arguments.n, seed=0)
    judged = Judge(windows([seen], 4 * arguments.n, seed=100), unseen, seen.fs)
    real = [windows([seen], arguments.n, seed=s) for s in range(1, arguments.seeds + 1)]
    found: dict[tuple[str, int | None, str], list[dict[str, float]]] = {
        ("real, trained on", None, ""): [judged(r.x, r.y) for r in real],
        ("real, held out", None, ""): [judged(unseen.x, unseen.y)] * arguments.seeds,
    }
    draw = Draws(model, plan, seen, windows([seen], 2000, seed=7), unseen.y)
    ways = [way for way in WAYS if way.sampler in (arguments.sampler or STEPS)]
    for seed in range(arguments.seeds):
        for way in ways:
            row = way.sampler, way.steps, way.remark
            found.setdefault(row, []).append(judged(draw(way, seed), unseen.y))
            tell(f"seed {seed}: {' '.join(map(str, row))}")
        if seed == 0:
            continue  # no spread to tell
        rows = [
            {"sampler": sampler, "steps": steps, "start": start, "figures": summary(values)}
            for (sampler, steps, start), values in found.items()
        ]
        if arguments.json:
            result = environment("cpu") | {
                "trained_steps": progress.step,
                "loss": read_log(arguments.run)[-1]["loss"],
                "records": {"trained": len(seen), "held_out": sum(map(len, held_out))},
                "drawn": arguments.n,
                "seeds": seed + 1,
                "figures": {key: name for key, (name, _) in FIGURES.items()},
                "rows": rows,
            }
            arguments.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    tell("")
    print(markdown(rows))


def tell(text: str) -> None:
    print(f"\r{text:40s}", end="" if text else "\r", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

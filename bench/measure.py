"""Timing variants of one function against each other, and how time grows with a size."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ecgcore.testing.compare import evaluate, relative_error, upcast

Inputs = dict[str, Any]
ERROR_CEILING = 1e-2
"""A variant whose numbers are further off than this computes something else: it is not timed.
Float32 gradients of dt are ill conditioned, 2.6e-3 off in naive torch; a wrong formula is off by
order 1."""
SECONDS = 8.0
"""A variant that has taken this long in its row is timed no further, once it has three rounds."""


@dataclass
class Variant:
    """One way to compute a row's function. ``inputs`` may hold what only this way needs."""

    backend: str
    function: Callable[..., Tensor]
    inputs: Inputs
    truth: Callable[..., Tensor]
    """The float64 reference that takes the same inputs."""


@dataclass
class Row:
    op: str
    shape: str
    task: str
    variants: list[Variant]
    wrt: tuple[str, ...] = ()
    slices: dict[str, int] = field(default_factory=dict)
    """Axis of the features in each input: errors are measured on the first few features."""


@dataclass
class Measured:
    op: str
    shape: str
    task: str
    backend: str
    ms: float
    ratio: float
    """How many times longer than ecgcore."""
    peak_mb: float
    error: float


def _forward_backward(variant: Variant, wrt: Sequence[str]) -> Callable[[], Any]:
    inputs = dict(variant.inputs)
    if not wrt:

        def forward() -> Tensor:
            with torch.no_grad():
                return variant.function(**inputs)

        return forward
    leaves = [inputs[name].detach().clone().requires_grad_() for name in wrt]
    call = {**inputs, **dict(zip(wrt, leaves, strict=True))}
    dy = torch.ones_like(variant.function(**inputs))

    def both() -> tuple[Tensor, ...]:
        return torch.autograd.grad(variant.function(**call), leaves, dy)

    return both


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def peak_memory(run: Callable[[], Any], device: str) -> float:
    """Most bytes allocated at once during ``run`` through torch's allocator, in MB, inputs not
    counted."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        _synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        result = run()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    del result
    return peak / 1e6


def error(variant: Variant, row: Row, features: int) -> float:
    """Worst relative error of output and gradients on the first ``features`` features, against
    float64."""
    inputs = {
        name: value.narrow(
            row.slices[name], 0, min(features, value.shape[row.slices[name]])
        ).clone()
        if name in row.slices
        else value
        for name, value in variant.inputs.items()
    }
    found = evaluate(variant.function, inputs, row.wrt)
    exact = evaluate(variant.truth, upcast(inputs), row.wrt, found["output"].dtype)
    return max(relative_error(found[name], exact[name]) for name in exact)


def measure(row: Row, rounds: int, device: str, features: int = 16) -> list[Measured]:
    """Every variant of a row, its error taken on the first ``features`` features."""
    errors = {v.backend: error(v, row, features) for v in row.variants}
    for backend, value in errors.items():
        if not value < ERROR_CEILING:
            raise RuntimeError(f"{row.op} {row.task}, {backend}: error {value:.1e} against float64")
    runs = {v.backend: _forward_backward(v, row.wrt) for v in row.variants}
    peaks = {backend: peak_memory(run, device) for backend, run in runs.items()}
    ms = {backend: 1e3 * seconds for backend, seconds in interleaved(runs, rounds, device).items()}
    ours = ms[row.variants[0].backend]
    return [
        Measured(row.op, row.shape, row.task, b, ms[b], ms[b] / ours, peaks[b], errors[b])
        for b in ms
    ]


def interleaved(
    runs: Mapping[str, Callable[[], Any]], rounds: int, device: str, turn: float = 0.02
) -> dict[str, float]:
    """Median seconds of each call; they take turns, so that a busy moment meets all of them. A
    variant is repeated within a round until ``turn`` seconds are full, or 50 times."""
    times: dict[str, list[float]] = {backend: [] for backend in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for backend, run in runs.items():
            if not _timed_enough(times[backend]):
                times[backend].append(_seconds(run, times[backend], turn, device))
    return {backend: statistics.median(t) for backend, t in times.items()}


def beside(
    ours: str, runs: Mapping[str, Callable[[], Any]], rounds: int, device: str, turn: float
) -> dict[str, tuple[float, float]]:
    """As :func:`interleaved`, and how many times as long as ``ours`` each call takes: ``ours`` is
    timed anew right before it, so that the two share a busy moment, and the median of their ratios
    is taken."""
    times: dict[str, list[float]] = {backend: [] for backend in runs}
    ratios: dict[str, list[float]] = {backend: [] for backend in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for backend in runs:
            if backend == ours or _timed_enough(times[backend]):
                continue
            for name in (ours, backend):
                times[name].append(_seconds(runs[name], times[name], turn, device))
            ratios[backend].append(times[backend][-1] / times[ours][-1])
    ratios[ours] = [1.0]
    return {
        name: (statistics.median(times[name]), statistics.median(ratios[name])) for name in runs
    }


def _timed_enough(times: Sequence[float]) -> bool:
    return len(times) >= 3 and sum(times) > SECONDS


def _seconds(run: Callable[[], Any], before: Sequence[float], turn: float, device: str) -> float:
    """Of a call, repeated until ``turn`` seconds are full by what it took ``before``."""
    gc.collect()
    _synchronize(device)
    once = statistics.median(before) if before else 0.0
    repeats = max(1, min(50, int(turn / once))) if once else 1
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    _synchronize(device)
    return (time.perf_counter() - start) / repeats


def slope(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Least-squares slope of log time over log size."""
    x, y = [math.log(s) for s in sizes], [math.log(t) for t in seconds]
    mx, my = statistics.fmean(x), statistics.fmean(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum(
        (a - mx) ** 2 for a in x
    )


@dataclass
class Series:
    """A call at several sizes, all else equal: ``make(size)`` gives the call, ``least`` is one with
    all but nothing to do."""

    name: str
    sizes: tuple[int, ...]
    make: Callable[[int], Callable[[], Tensor]]
    least: Callable[[], Tensor]


@dataclass
class Scaling:
    """Median times of a series; ``fixed`` is the share of a call with all but nothing to do in the
    shortest of them."""

    name: str
    slope: float
    fixed: float
    sizes: tuple[int, ...]
    ms: list[float]


def scaling(series: Series, rounds: int, device: str) -> Scaling:
    """Slope of the series' time, from medians of interleaved rounds."""
    runs = {"least": series.least} | {str(size): series.make(size) for size in series.sizes}
    with torch.no_grad():
        least, *seconds = interleaved(runs, rounds, device).values()
    return Scaling(
        series.name,
        slope(series.sizes, seconds),
        least / min(seconds),
        series.sizes,
        [1e3 * s for s in seconds],
    )

"""Times the ops against what they replace: ``python bench/ops.py [--quick] [--json PATH]
[--scaling]``.

Variants of a row run interleaved in one process, after their numbers were held against float64
truth; the table gives medians, ratios to ecgcore and the memory each needs beyond its inputs. See
README.md beside this file.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import anchors
import ecgcore
from ecgcore import ops
from ecgcore.testing.cases import CauchyCase, NplrKernelCase, S4ConvCase, stored_omega
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


def error(variant: Variant, row: Row, features: int = 16) -> float:
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


def measure(row: Row, rounds: int, device: str) -> list[Measured]:
    errors = {v.backend: error(v, row) for v in row.variants}
    for backend, value in errors.items():
        if not value < ERROR_CEILING:
            raise RuntimeError(f"{row.op} {row.task}, {backend}: error {value:.1e} against float64")
    runs = {v.backend: _forward_backward(v, row.wrt) for v in row.variants}
    peaks = {backend: peak_memory(run, device) for backend, run in runs.items()}
    times: dict[str, list[float]] = {backend: [] for backend in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for backend, run in runs.items():
            if len(times[backend]) >= 3 and sum(times[backend]) > SECONDS:
                continue
            gc.collect()
            _synchronize(device)
            # Fast variants are repeated within a round, so that it lasts long enough to be timed.
            once = statistics.median(times[backend]) if times[backend] else 0.0
            repeats = max(1, min(50, int(0.02 / once))) if once else 1
            start = time.perf_counter()
            for _ in range(repeats):
                run()
            _synchronize(device)
            times[backend].append((time.perf_counter() - start) / repeats)
    ms = {backend: 1e3 * statistics.median(t) for backend, t in times.items()}
    ours = ms[row.variants[0].backend]
    return [
        Measured(row.op, row.shape, row.task, b, ms[b], ms[b] / ours, peaks[b], errors[b])
        for b in ms
    ]


# --------------------------------------------------------------------------------------------------
# The rows


def _sums(keops: bool) -> dict[str, anchors.Sum]:
    return {
        "naive torch": anchors.naive_cauchy,
        **({"KeOps": anchors.keops_cauchy} if keops else {}),
    }


def nplr_rows(device: str, keops: bool, H: int, N: int, L: int) -> Iterable[Row]:
    case = NplrKernelCase(H=H, modes=N, L=L, channels=2)
    inputs = case.inputs(torch.float32, device)
    omega = stored_omega(L).to(torch.complex64).to(device)
    slices = {"A": 0, "B": 1, "C": 1, "P": 1, "dt": 0}
    variants = [Variant("ecgcore", ops.nplr_kernel, inputs, ops.reference.nplr_kernel)]
    for name, cauchy in _sums(keops).items():

        def function(cauchy: anchors.Sum = cauchy, **given: Any) -> Tensor:
            return anchors.nplr_kernel(cauchy=cauchy, **given)

        theirs = {**inputs, "omega": omega}
        variants.append(Variant(name, function, theirs, ops.reference.nplr_kernel))
    shape = f"H={H} N={N} L={L} R=1 C=2"
    yield Row("nplr_kernel", shape, "forward", variants, (), slices)
    trained = [v for v in variants if v.backend != "KeOps"]  # its derivative takes minutes on a CPU
    yield Row("nplr_kernel", shape, "forward + backward, C", trained, ("C",), slices)
    yield Row("nplr_kernel", shape, "forward + backward, all", trained, case.wrt, slices)


def conv_rows(device: str, H: int, L: int, batches: Sequence[int]) -> Iterable[Row]:
    for B in batches:
        base = S4ConvCase(B=B, H=H, L=L, activation="gelu").inputs(torch.float32, device)
        kernel = torch.fft.irfft(
            base["spectrum"], 2 * L
        )  # first half forward, second half backward
        n = 1 << (2 * L - 1).bit_length()
        wide = torch.cat([kernel[..., :L], kernel.new_zeros(1, H, n - 2 * L), kernel[..., L:]], -1)
        padded = {**base, "spectrum": torch.fft.rfft(wide)}
        variants = [
            Variant("ecgcore", ops.s4_conv, base, ops.reference.s4_conv),
            Variant(f"torch.fft n={2 * L}", anchors.fft_conv, base, ops.reference.s4_conv),
            Variant(f"torch.fft n={n}", anchors.fft_conv, padded, ops.reference.s4_conv),
        ]
        slices = {"u": 1, "spectrum": 1, "D": 1}
        shape = f"B={B} H={H} L={L} gelu"
        yield Row("s4_conv", shape, "forward", variants, (), slices)
        yield Row("s4_conv", shape, "forward + backward", variants, ("u", "spectrum", "D"), slices)


def cauchy_rows(device: str, keops: bool, H: int, N: int, L: int) -> Iterable[Row]:
    case = CauchyCase(v_rows=(H,), w_rows=(H,), modes=N, nodes=L)
    inputs = case.inputs(torch.float32, device)
    inputs.pop("conjugate_pairs")
    variants = [Variant("ecgcore", ops.cauchy, inputs, ops.reference.cauchy)]
    variants += [
        Variant(name, function, inputs, ops.reference.cauchy)
        for name, function in _sums(keops).items()
    ]
    shape = f"rows={H} N={N} L={L}"
    slices = {"v": 0, "w": 0}
    yield Row("cauchy", shape, "forward", variants, (), slices)
    trained = [v for v in variants if v.backend != "KeOps"]
    yield Row("cauchy", shape, "forward + backward, v and w", trained, ("v", "w"), slices)


def rows(op: str | None, device: str, quick: bool, keops: bool) -> Iterable[Row]:
    H, N, L = (64, 32, 250) if quick else (512, 32, 1000)
    if op in (None, "nplr_kernel"):
        yield from nplr_rows(device, keops, H, N, L)
    if op in (None, "s4_conv"):
        yield from conv_rows(device, H, L, (1, 8))
    if op in (None, "cauchy"):
        yield from cauchy_rows(device, keops, H, N, L // 2 + 1)


# --------------------------------------------------------------------------------------------------
# How time grows


def slope(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Least-squares slope of log time over log size."""
    x, y = [math.log(s) for s in sizes], [math.log(t) for t in seconds]
    mx, my = statistics.fmean(x), statistics.fmean(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum(
        (a - mx) ** 2 for a in x
    )


def scaling(device: str, rounds: int) -> dict[str, float]:
    """Slopes of the ops' forward time in each size, the others as in an SSSD-ECG layer."""

    def nplr(**sizes: int) -> Callable[[], Tensor]:
        given = NplrKernelCase(**{"H": 256, "modes": 32, "L": 1000, "channels": 2, **sizes})
        inputs = given.inputs(torch.float32, device)
        return lambda: ops.nplr_kernel(**inputs)

    def conv(**sizes: int) -> Callable[[], Tensor]:
        given = S4ConvCase(**{"B": 2, "H": 256, "L": 1000, "activation": "gelu", **sizes})
        inputs = given.inputs(torch.float32, device)
        return lambda: ops.s4_conv(**inputs)

    series: dict[str, tuple[Callable[..., Callable[[], Tensor]], str, tuple[int, ...]]] = {
        "nplr_kernel in H": (nplr, "H", (128, 256, 512, 1024)),
        "nplr_kernel in N": (nplr, "modes", (16, 32, 64, 128)),
        "nplr_kernel in L": (nplr, "L", (500, 1000, 2000, 4000)),
        "s4_conv in B": (conv, "B", (1, 2, 4, 8)),
        "s4_conv in H": (conv, "H", (128, 256, 512, 1024)),
        "s4_conv in L": (conv, "L", (500, 1000, 2000, 4000)),
    }
    slopes = {}
    for name, (make, size, sizes) in series.items():
        runs = [make(**{size: s}) for s in sizes]
        times: list[list[float]] = [[] for _ in sizes]
        with torch.no_grad():
            for _ in range(rounds + 2):
                for run, record in zip(runs, times, strict=True):
                    _synchronize(device)
                    start = time.perf_counter()
                    run()
                    _synchronize(device)
                    record.append(time.perf_counter() - start)
        slopes[name] = slope(sizes, [statistics.median(t[2:]) for t in times])
    return slopes


# --------------------------------------------------------------------------------------------------


def environment(device: str) -> dict[str, Any]:
    """Where and when: what a figure needs beside it."""
    here = Path(__file__).resolve().parent
    commit = subprocess.run(
        ["git", "-C", here, "describe", "--always", "--dirty"], capture_output=True, text=True
    ).stdout.strip()
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = {
            ln.split(":")[1].strip() for ln in info.read_text().splitlines() if "model name" in ln
        }
        cpu = ", ".join(sorted(models)) or cpu
    stamp = {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "commit": commit or "unknown",
        "ecgcore": ecgcore.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu": cpu,
        "isa": ecgcore.backends()["cpu"]["isa"],
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "device": device,
    }
    if device.startswith("cuda"):
        stamp["gpu"] = torch.cuda.get_device_name(device)
        stamp["cuda"] = torch.version.cuda
    return stamp


def table(measured: Iterable[Measured]) -> str:
    lines = [
        "| op | shape | task | backend | median ms | x ecgcore | peak MB | error |",
        "|-|-|-|-|-:|-:|-:|-:|",
    ]
    lines += [
        f"| {m.op} | {m.shape} | {m.task} | {m.backend} | {m.ms:.3g} | {m.ratio:.3g} | "
        f"{m.peak_mb:.3g} | {m.error:.0e} |"
        for m in measured
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--op", choices=("cauchy", "nplr_kernel", "s4_conv"), help="only this op")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes and few rounds: a smoke test"
    )
    parser.add_argument("--rounds", type=int, help="timed rounds of every row")
    parser.add_argument("--no-keops", action="store_true", help="leave KeOps out")
    parser.add_argument("--scaling", action="store_true", help="slopes in H, N, L and B instead")
    parser.add_argument("--json", metavar="PATH", help="write figures and surroundings to PATH")
    arguments = parser.parse_args(argv)
    rounds = arguments.rounds or (3 if arguments.quick else 9)
    stamp = environment(arguments.device)
    print(", ".join(f"{k} {v}" for k, v in stamp.items()), file=sys.stderr)
    report: dict[str, Any] = {"environment": stamp}
    if arguments.scaling:
        report["slopes"] = scaling(arguments.device, rounds)
        for name, value in report["slopes"].items():
            print(f"{name}: {value:.2f}")
    else:
        measured: list[Measured] = []
        keops = not arguments.no_keops
        for row in rows(arguments.op, arguments.device, arguments.quick, keops):
            measured += measure(row, rounds, arguments.device)
        print(table(measured))
        report["rows"] = [asdict(m) for m in measured]
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Times one sample through a streaming S4: ``python bench/step.py [--device cuda] [--json PATH]``.

The variants take turns in one process, after their outputs were held against float64; medians. The
torch expressions are the recurrences as the S4 papers' code writes them: ``linear`` corrects for
the low rank twice, before and after the diagonal solve; ``dense`` multiplies by the matrix. The
last lines time early and late samples of a layer: they must cost the same.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ecgcore import nn
from ecgcore.nn.recurrence import DenseRecurrence
from ecgcore.testing.compare import relative_error

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
LIMIT = 1e-4
"""Of the outputs after 20 samples; a variant further off computes something else."""


def torch_linear(kernel: nn.SSKernelNPLR) -> Step:
    """O(n) in plain torch: half a step forward, half a step by the Woodbury identity."""
    w, B, P, Q = (t.detach().expand(*t.shape[:-2], kernel.H, -1) for t in kernel.matrices())
    dt = torch.exp(kernel.log_dt.detach())[:, None]
    D, E = 1 / (2 / dt - w), 2 / dt + w
    core = 1 + 2 * (Q * D * P).sum(-1, keepdim=True).real  # rank 1
    R = Q * D / core
    C = 2 * kernel.make_recurrence("linear").C.detach()

    def step(u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        x = E * x - P[0] * (2 * (Q[0] * x).sum(-1, keepdim=True).real) + 2 * B[0] * u[..., None]
        x = D * (x - P[0] * (2 * (R[0] * x).sum(-1, keepdim=True).real))
        return torch.einsum("chn,bhn->bch", C, x).real, x

    return step


def torch_dense(kernel: nn.SSKernelNPLR) -> Step:
    """The 2n x 2n matrix in plain torch."""
    dense = kernel.make_recurrence("dense")
    assert isinstance(dense, DenseRecurrence)
    dA, dB, dC = dense.dA, dense.dB, dense.dC

    def step(u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.einsum("hmn,bhn->bhm", dA, x) + dB * u[..., None]
        return torch.einsum("chn,bhn->bch", dC, x).real, x

    return step


def prepared(kernel: nn.SSKernelNPLR, mode: str) -> Step:
    kernel = copy.deepcopy(kernel)
    kernel.setup_step(mode)
    return kernel.step


def outputs(step: Step, u: Tensor, state: Tensor) -> Tensor:
    found = []
    for sample in u.unbind(-1):
        y, state = step(sample, state)
        found.append(y)
    return torch.stack(found, -1)


def finished(device: str) -> float:
    """The time now, with everything queued on the device done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def median_us(
    steps: Sequence[Callable[[], object]], rounds: int, repeats: int, device: str
) -> list[float]:
    """Median time of one call of each, in turns."""
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds):
        for step, row in zip(steps, times, strict=True):
            step()
            start = finished(device)
            for _ in range(repeats):
                step()
            row.append((finished(device) - start) / repeats * 1e6)
    return [statistics.median(row) for row in times]


def compare(features: int, size: int, batch: int, device: str) -> list[dict[str, object]]:
    torch.manual_seed(0)
    kernel = nn.HippoSSKernel(features, N=size, L=1000, exact_nodes=True).kernel.to(device)
    exact = prepared(copy.deepcopy(kernel).double(), "linear")
    variants = {
        "ecgcore linear": (prepared(kernel, "linear"), size // 2),
        "torch linear": (torch_linear(kernel), size // 2),
        "ecgcore dense": (prepared(kernel, "dense"), size),
        "torch dense": (torch_dense(kernel), size),
    }
    u = torch.randn(batch, features, 20, device=device)
    zero = torch.zeros(batch, features, size // 2, dtype=torch.complex128, device=device)
    truth = outputs(exact, u.double(), zero)
    rows: list[dict[str, object]] = []
    calls = []
    for name, (step, states) in variants.items():
        state = torch.zeros(batch, features, states, dtype=torch.complex64, device=device)
        error = relative_error(outputs(step, u, state), truth)
        if not error <= LIMIT:
            sys.exit(f"{name}: off by {error:.1e}")
        calls.append(lambda step=step, state=state: step(u[..., 0], state))
        rows.append({"batch": batch, "variant": name, "error": error})
    for row, microseconds in zip(rows, median_us(calls, 15, 20, device), strict=True):
        row["us"] = microseconds
    return rows


def early_and_late(features: int, size: int, device: str) -> dict[str, float]:
    """Median time of a whole layer's step around sample 10 and around sample 10,000."""
    layer = nn.S4(features, d_state=size, l_max=1000).eval().to(device)
    layer.setup_step("linear")
    state = layer.default_state(1)
    samples = torch.randn(10_100, 1, features, device=device)
    times = []
    for sample in samples:
        start = finished(device)
        _, state = layer.step(sample, state)
        times.append((finished(device) - start) * 1e6)
    return {
        "samples 10 to 110": statistics.median(times[10:110]),
        "samples 10,000 to 10,100": statistics.median(times[10_000:]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--size", type=int, default=64, help="of the state, N")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    parser.add_argument("--json", metavar="PATH", help="write the figures to PATH")
    arguments = parser.parse_args()

    with torch.inference_mode():
        rows = [
            row
            for batch in arguments.batch
            for row in compare(arguments.features, arguments.size, batch, arguments.device)
        ]
        constant = early_and_late(arguments.features, arguments.size, arguments.device)
    print(f"H = {arguments.features}, N = {arguments.size}, {torch.get_num_threads()} threads")
    base = {row["batch"]: row["us"] for row in rows if row["variant"] == "ecgcore linear"}
    for row in rows:
        ratio = row["us"] / base[row["batch"]]  # type: ignore[operator]
        print(
            f"B = {row['batch']}  {row['variant']:15}  {row['us']:9.1f} us"
            f"  {ratio:6.1f} x  error {row['error']:.1e}"
        )
    for name, microseconds in constant.items():
        print(f"layer, {name}: {microseconds:.1f} us")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"steps": rows, "layer": constant}, file, indent=1)


if __name__ == "__main__":
    main()

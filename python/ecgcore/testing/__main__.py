"""``python -m ecgcore.testing``: every op's case list, forward and backward, against double
precision, and whole models through the sampling engine; one table.

On a CUDA device also: the same bits twice, and work in stream order. Exit code 0 only if everything
passes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

import torch
from torch import Tensor

import ecgcore
from ecgcore.testing.cases import CASES, CPU_ONLY, HALF_OPS, Case, cases
from ecgcore.testing.compare import Result, check, cotangent, evaluate, native, table
from ecgcore.testing.plans import check_plans

ENGINE = "engine"

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def same_bits(case: Case, device: str) -> str | None:
    """Two runs on the same inputs must agree bit for bit; says what differs."""
    inputs = case.inputs(torch.float32, device)
    first, second = (evaluate(native(case.op), inputs, case.wrt) for _ in range(2))
    differing = [name for name in first if not torch.equal(first[name], second[name])]
    return f"{case.op} {case}: two runs differ in {', '.join(differing)}" if differing else None


def stream_order(case: Case, device: str) -> str | None:
    """Inputs that arrive late on a stream of their own must be waited for, forward and backward;
    says what differs.

    The stream sleeps, then copies the inputs over zeros, then runs the op. A kernel on any other
    stream reads the zeros.
    """
    inputs = case.inputs(torch.float32, device)
    expected = evaluate(native(case.op), inputs, case.wrt)
    late = {k: torch.zeros_like(v) if isinstance(v, Tensor) else v for k, v in inputs.items()}
    leaves = {name: late[name].requires_grad_() for name in case.wrt}
    dy = cotangent(expected["output"].shape, expected["output"].dtype, device)
    late_dy = torch.zeros_like(dy)
    torch.cuda.synchronize(device)
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # about 30 ms
        with torch.no_grad():
            for name, value in inputs.items():
                if isinstance(value, Tensor):
                    late[name].copy_(value)
        output = native(case.op)(**late)
        torch.cuda._sleep(50_000_000)
        late_dy.copy_(dy)
        gradients = torch.autograd.grad(output, list(leaves.values()), late_dy) if leaves else ()
        found = [output.detach().clone(), *(g.clone() for g in gradients)]
    stream.synchronize()
    names = ["output", *(f"grad {name}" for name in case.wrt)]
    differing = [n for n, f in zip(names, found, strict=True) if not torch.equal(f, expected[n])]
    return f"{case.op} {case}: stream order lost in {', '.join(differing)}" if differing else None


def _cases(op: str | None, quick: bool, device: str) -> list[Case]:
    chosen = cases(op, *(("quick",) if quick else ()), without="bench")
    return [case for case in chosen if device.startswith("cpu") or case.op not in CPU_ONLY]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ecgcore.testing", description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    parser.add_argument("--op", choices=(*CASES, ENGINE), help="only this op, or only the engine")
    parser.add_argument("--dtype", choices=tuple(DTYPES), help="only this precision")
    parser.add_argument("--quick", action="store_true", help="a few small cases of each op")
    parser.add_argument("--json", metavar="PATH", help="write every single figure to PATH")
    arguments = parser.parse_args(argv)
    device: str = arguments.device

    start = time.perf_counter()
    print(f"ecgcore {ecgcore.__version__}, torch {torch.__version__}, {ecgcore.backends()}")
    if device.startswith("cuda"):
        print(f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}")
    chosen = [] if arguments.op == ENGINE else _cases(arguments.op, arguments.quick, device)
    results: list[Result] = []
    broken: list[str] = []
    for case in chosen:
        dtypes = [d for d in DTYPES.values() if d.itemsize >= 4 or case.op in HALF_OPS]
        for dtype in dtypes if arguments.dtype is None else [DTYPES[arguments.dtype]]:
            if dtype in dtypes:
                results += check(case, dtype, device)
        tests = (same_bits, stream_order) if device.startswith("cuda") else (same_bits,)
        broken += filter(None, (test(case, device) for test in tests))

    if results:
        print(table(results))
    if arguments.op in (None, ENGINE) and arguments.dtype is None:
        for r in check_plans(device):
            word = "ok" if r.ok else "FAIL"
            print(f"{r.op}  {r.case:32}  {r.dtype}  {r.error:.1e}  {r.limit:.1e}  {word}")
            results.append(r)
    failed = [r for r in results if not r.ok]
    for r in failed:
        print(f"FAILED {r.op} {r.case} {r.dtype} {r.quantity}: {r.error:.2e} > {r.limit:.2e}")
    for line in broken:
        print(f"FAILED {line}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"results": [asdict(r) for r in results], "broken": broken}, file, indent=1)
    promises = "bits and stream order" if device.startswith("cuda") else "bits"
    print(
        f"{len(results) - len(failed)} of {len(results)} figures within their limits; "
        f"{promises} of {len(chosen)} cases checked, {len(broken)} broken; "
        f"{time.perf_counter() - start:.1f} s"
    )
    return 1 if failed or broken or not results else 0


if __name__ == "__main__":
    sys.exit(main())

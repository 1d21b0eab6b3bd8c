"""Say what is installed and loaded, why CUDA is off if it is, and run a self-test of two seconds.

The exit code is 0 only if every figure of the self-test is within its limit.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version

import torch

import ecgcore
from ecgcore import testing

_PACKAGES = ("numpy", "safetensors", "tqdm", "matplotlib", "pykeops", "wfdb")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The doctor asks nothing."""


def run(arguments: argparse.Namespace) -> int:
    loaded = ecgcore.backends()
    cpu, cuda = loaded["cpu"], loaded["cuda"]
    packages = [f"{name} {found}" for name in _PACKAGES if (found := _version(name)) is not None]
    facts = {
        "ecgcore": f"{ecgcore.__version__} in {ecgcore.__path__[0]}",
        "python": f"{platform.python_version()} ({sys.executable})",
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
        "packages": ", ".join(packages),
        "system": f"{platform.system()} {platform.machine()}",
        "backend": loaded["current"],
        "cpu": f"{cpu['isa']} in use, this processor has {', '.join(cpu['available'])}",
        "cuda": "on" if cuda["available"] else f"off: {cuda['reason']}",
        "build": ", ".join(f"{key} {value}" for key, value in loaded["build"].items()),
    }
    for name, fact in facts.items():
        print(f"{name:9} {fact}")

    began = time.perf_counter()
    results = testing.quick_check()
    seconds = time.perf_counter() - began
    print(f"\nself-test, largest relative errors against double precision ({seconds:.1f} s):")
    print(testing.table(results))
    failed = [result for result in results if not result.ok]
    for result in failed:
        print(
            f"FAILED {result.op} {result.case} {result.quantity}: "
            f"error {result.error:.1e}, allowed {result.limit:.1e}"
        )
    print(f"{len(results) - len(failed)} of {len(results)} figures within their limits")
    return 1 if failed or not results else 0


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

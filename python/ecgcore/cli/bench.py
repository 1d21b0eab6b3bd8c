"""Time the ops against the torch expressions they replace (bench/ops.py of the source tree).

All arguments go to the benchmark; `ecgcore bench -- --help` lists them. The benchmarks are not
installed with the package: run this from a clone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tomllib
from pathlib import Path

import ecgcore
from ecgcore.errors import EcgcoreError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENT")


def run(arguments: argparse.Namespace) -> int:
    given = [argument for argument in arguments.arguments if argument != "--"]
    return subprocess.run([sys.executable, str(find_benchmark()), *given], check=False).returncode


def find_benchmark() -> Path:
    """``bench/ops.py`` of the clone that this package runs from, or of the one we stand in."""
    for top in (Path(ecgcore.__path__[0]).parent.parent, Path.cwd()):
        script, project = top / "bench" / "ops.py", top / "pyproject.toml"
        if script.is_file() and project.is_file():
            with project.open("rb") as file:
                if tomllib.load(file).get("project", {}).get("name") == "ecgcore":
                    return script
    raise EcgcoreError(
        "bench/ops.py is not here; the benchmarks come with the source tree, run this from a clone"
    )

"""``bench/gpu.sh``, walked through on the CPU: the flow that a machine with a GPU is given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ecgcore
from support import ROOT

SCRIPT = ROOT / "bench" / "gpu.sh"


def run(*arguments: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHON": python},
    )


@pytest.mark.slow
def test_flow_on_the_cpu(tmp_path: Path) -> None:
    """Every part leaves its text and its figures; a second run has nothing left to do."""
    package = str(Path(ecgcore.__file__).parents[1])
    out = tmp_path / "results"
    common = ("--device", "cpu", "--quick", "--site", package, "--out", str(out))

    first = run(*common, "environment", "build", "check")
    assert first.returncode == 0, first.stdout
    assert not (out / "bench.json").exists()
    rest = run(*common)
    assert rest.returncode == 0, rest.stdout
    assert "check: done before" in rest.stdout

    figures = json.loads((out / "check.json").read_text())
    assert figures["results"]
    assert not figures["broken"]
    assert json.loads((out / "bench.json").read_text())
    for part in ("environment", "build", "check", "sanitize", "bench"):
        assert f"{part}: passed" in (out / "summary.txt").read_text()
        assert (out / f"{part}.txt").read_text()

    again = run(*common)
    assert again.returncode == 0
    assert again.stdout.count("done before") == 5


def test_a_failing_part_fails_the_run(tmp_path: Path) -> None:
    """Here the build, for want of a Python; without a package nothing after it is tried."""
    out = tmp_path / "results"
    broken = run(
        "--device",
        "cpu",
        "--site",
        str(tmp_path),
        "--out",
        str(out),
        "build",
        "check",
        python="false",
    )
    assert broken.returncode == 1
    assert "build: FAILED (1)" in (out / "summary.txt").read_text()
    assert not (out / "build.done").exists()
    assert "== check" not in broken.stdout


@pytest.mark.parametrize("argument", ["--device=cuda", "sanitise"])
def test_unknown_arguments(argument: str) -> None:
    refused = run(argument)
    assert refused.returncode == 2
    assert "parts are environment build check sanitize bench" in refused.stdout


def test_unknown_device() -> None:
    refused = run("--device", "tpu")
    assert refused.returncode == 2
    assert "--device must be cuda or cpu, got 'tpu'" in refused.stdout

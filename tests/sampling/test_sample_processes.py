"""Whole processes: a large run that is stopped or killed, and one that is shared by two."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ecgcore
from ecgcore import cli
from ecgcore.sampling import sample
from tiny import loaded_sssd
from train_checks import command, environment

OPTIONS = ["-n", "24", "--seed", "4", "--batch-size", "2", "--no-sheets", "--device", "cpu"]


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes long enough to be stopped between parts."""
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    ecgcore.save(loaded_sssd(T=16), path)
    return path


@pytest.fixture(scope="module")
def wanted(model_file: Path) -> np.ndarray:
    """What one process draws, in memory."""
    x: np.ndarray = sample(ecgcore.load(model_file), n=24, seed=4, batch_size=2).x.numpy()
    return x[:, [0, 1, *range(6, 12), 2, 3, 4, 5]]


def parts(out: Path) -> int:
    return len(list(out.glob("parts/[0-9]*.npy")))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_goes_on(
    number: int, model_file: Path, wanted: np.ndarray, tmp_path: Path, threads: Any
) -> None:
    threads(1)
    out = tmp_path / "out"
    arguments = ["sample", str(model_file), *OPTIONS, "--out", str(out)]
    with subprocess.Popen(
        command(*arguments),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Whoever started the tests in the background had SIGINT ignored, and children inherit it.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 300
        while parts(out) < 3 and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(number)
        said = process.communicate()[1].decode()
    made = parts(out)
    assert 3 <= made < 12, "stopped too late"
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130
        kept = f"interrupted; {2 * made} of 24 records are kept in {out / 'parts'}; run the same"
        assert kept in said.splitlines()[-1]
        assert "Traceback" not in said

    assert cli.main(arguments) == 0
    assert np.array_equal(np.load(out / "train_data.npy"), wanted)
    assert sorted(p.name for p in out.iterdir()) == ["train_data.npy", "train_labels.npy"]


FAILING = """
import os, sys
from ecgcore.cli import main
from ecgcore.sampling.parts import Parts

save = Parts.save
def fail(self, part, x):
    if part >= 3:
        raise OSError("no space left on device")
    save(self, part, x)

if os.environ["RANK"] == "1":
    Parts.save = fail
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_two_processes_share_a_run_and_fail_together(
    model_file: Path, wanted: np.ndarray, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["sample", str(model_file), *OPTIONS, "--out", str(out)]
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    launch = command(torchrun=2)[:-2]  # without -m ecgcore
    assert launch[-1] == "--nproc-per-node=2"

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*launch, *words], env=environment(), capture_output=True, text=True, timeout=300,
            check=False,
        )  # fmt: skip

    failed = run(str(script), *arguments)
    assert failed.returncode != 0
    assert "ecgcore sample: error: no space left on device" in failed.stderr
    other = r"ecgcore sample: (interrupted; \d+ of 24|error: another process of this run has ended)"
    assert re.search(other, failed.stderr)  # the first one, which had nothing to complain of
    assert 1 <= parts(out) < 12
    assert (out / "parts" / "00000001.npy").exists()  # of the second process

    whole = run("-m", "ecgcore", *arguments)
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.count("24 records, seed 4") == 1  # the first process alone speaks
    assert np.abs(np.load(out / "train_data.npy") - wanted).max() <= 1e-5 * np.abs(wanted).max()
    assert sorted(p.name for p in out.iterdir()) == ["train_data.npy", "train_labels.npy"]

"""What tests of training runs share: comparing two runs, stopping one, starting processes."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from ecgcore import checkpoint
from ecgcore.train import Progress, read_log
from support import ROOT


def state(run: Path) -> dict[str, Any]:
    """What a run would continue from."""
    saved: dict[str, Any] = torch.load(run / "train_state.pt", weights_only=True)
    return saved


def assert_same_run(a: Path, b: Path) -> None:
    """Bit for bit: weights, optimiser, averages, what is sampled from; the log but for times."""
    first, second = (torch.load(run / "train_state.pt", weights_only=True) for run in (a, b))
    assert first["step"] == second["step"]
    for part in ("model", "average"):
        for key, value in first[part].items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(second[part][key])), key
    for index, entries in first["optimizer"]["state"].items():
        for key, value in entries.items():
            assert torch.equal(value, second["optimizer"]["state"][index][key]), (index, key)
    sampled, resampled = (checkpoint.load(run).state_dict() for run in (a, b))
    assert all(torch.equal(value, resampled[key]) for key, value in sampled.items())
    logs = [[{**line, "seconds": 0} for line in read_log(run)] for run in (a, b)]
    assert logs[0] == logs[1]


def stop_at(step: int, number: int = signal.SIGINT) -> Any:
    def callback(progress: Progress) -> None:
        if progress.step == step:
            os.kill(os.getpid(), number)

    return callback


def command(*arguments: str, torchrun: int = 0) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={torchrun}"]
    return [sys.executable, *(launcher if torchrun else []), "-m", "ecgcore", *arguments]


def environment(**extra: str) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT / "python"), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | extra

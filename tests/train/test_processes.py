"""Whole processes: a run that is killed, and one that is spread over two."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ecgcore.train import read_log
from ecgcore.train.distributed import World
from ecgcore.train.launch import Plan, train
from support import ROOT
from train_checks import command, environment, state

CONFIG = str(ROOT / "configs" / "test.json")


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_weights(
    plan: Plan, tmp_path: Path, threads: Any
) -> None:
    threads(1)
    arguments = ["train", CONFIG, "--max-steps", "60", "--out", str(tmp_path / "killed")]
    process = subprocess.Popen(
        command(*arguments), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 120
    while len(read_log(tmp_path / "killed")) < 20 and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if process.stderr:
        process.stderr.close()
    made = len(read_log(tmp_path / "killed"))
    saved = state(tmp_path / "killed")["step"]
    assert 0 < saved < 60, f"killed too late, or nothing saved ({made} steps were logged)"

    longer = plan.replace(max_steps=60)
    train(longer, tmp_path / "killed")
    train(longer, tmp_path / "whole")
    killed, whole = state(tmp_path / "killed"), state(tmp_path / "whole")
    for part in ("model", "average"):
        for key, value in whole[part].items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(killed[part][key])), key
    assert [line["step"] for line in read_log(tmp_path / "killed")] == list(range(1, 61))


class InHalves(nn.Module):
    """Makes of one batch the two that two processes would make of it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, *batch: Tensor) -> Tensor:
        halves = zip(*(tensor.chunk(2) for tensor in batch), strict=True)
        return torch.cat([self.model(*half) for half in halves])


class OneOfTwo(World):
    def wrap(self, model: nn.Module) -> nn.Module:
        return InHalves(model)


@pytest.mark.slow
def test_two_processes_make_the_run_of_one(plan: Plan, tmp_path: Path, threads: Any) -> None:
    """``batch_size`` counts the records of all processes, and they share one set of draws.

    One process that sums each gradient as two do, half a batch and half a batch, comes to the same
    bits. Over whole batches it is another rounding: it can turn a ReLU over, and Adam divides each
    gradient by its own size, however small, so that no single weight is promised. The losses are.
    """
    threads(1)
    config = plan.to_dict()
    config["model"]["s4_dropout"] = 0.0
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    made = subprocess.run(
        command("train", str(file), "--out", str(tmp_path / "two"), torchrun=2),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("training") == 1  # the first process alone speaks
    train(config, tmp_path / "one")
    train(config, tmp_path / "halves", world=OneOfTwo())
    halves, two = state(tmp_path / "halves"), state(tmp_path / "two")
    for part in ("model", "average"):
        for key, value in halves[part].items():
            assert torch.equal(torch.as_tensor(two[part][key]), torch.as_tensor(value)), key
    one, halved, two_losses = (
        [line["loss"] for line in read_log(tmp_path / name)] for name in ("one", "halves", "two")
    )
    assert two_losses == pytest.approx(halved, rel=1e-6)
    assert two_losses == pytest.approx(one, rel=1e-4)

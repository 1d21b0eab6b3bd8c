"""The demo in small: the same way as ``ecgcore demo``, with a model too small to learn much."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from ecgcore.cli import main
from ecgcore.train import read_log
from ecgcore.train.launch import Plan
from support import ROOT, need_shared

TINY = ["--config", str(ROOT / "configs" / "test.json"), "--max-steps", "3", "-n", "5"]


def test_the_demo_trains_draws_and_reports(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "demo"
    assert main(["demo", *TINY, "--out", str(out), "--device", "cpu"]) == 0
    assert str(out / "report.html") in capsys.readouterr().out
    page = (out / "report.html").read_text()
    assert not re.search(r"(src|href)=.?https?:", page)  # nothing is fetched
    assert "<script" not in page
    for text in (
        "white noise",
        "all 10 denoising steps",
        "SYNTHETIC",
        "likeness",
        "3 training steps",
    ):
        assert text in page
    assert "6 of 10 denoising steps" in page
    for name in ("CD", "HYP", "MI", "NORM", "STTC"):
        for kind in ("real", "from white noise", "from class Gaussian"):
            assert f"{name}, {kind}" in page
    for start in ("white_noise", "class_gaussian"):
        assert np.load(out / start / "train_data.npy").shape == (5, 12, 100)
    assert [line["step"] for line in read_log(out / "run")] == [1, 2, 3]

    assert main(["demo", *TINY, "--out", str(out)]) == 1  # nothing is overwritten unasked
    assert "exists" in capsys.readouterr().err
    assert main(["demo", *TINY, "--out", str(out), "--force"]) == 0  # found trained: drawn again


def test_the_demo_on_real_records(tmp_path: Path) -> None:
    folder = need_shared("data", "ludb_ptbxl_layout")
    out = tmp_path / "demo"
    assert main(["demo", *TINY, "--out", str(out), "--data", str(folder)]) == 0
    page = (out / "report.html").read_text()
    assert str(folder) in page
    assert "the model has never seen" in page  # folds 9 and 10
    config = json.loads((out / "run" / "config.json").read_text())
    assert config["dataset"]["data_directory"] == str(folder)


def test_the_demo_s_own_config_is_the_one_in_configs() -> None:
    own = ROOT / "python" / "ecgcore" / "cli" / "demo.json"
    assert (ROOT / "configs" / "demo.json").read_text() == own.read_text()
    plan = Plan.read(own)
    assert plan.train.max_minutes is not None
    assert plan.train.max_minutes <= 3
    assert plan.data.data_directory is None

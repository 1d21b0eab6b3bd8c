"""``ecgcore evaluate``: folders and arrays in, a table and a report out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ecgcore import data
from ecgcore.cli import main


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``real`` with splits test and train, ``drawn`` as ``ecgcore sample`` leaves it."""
    root = tmp_path_factory.mktemp("evaluate")
    for folder, split, n, seed in (
        ("real", "test", 40, 1),
        ("real", "train", 80, 2),
        ("drawn", "train", 40, 3),
    ):
        x, y = data.simulate(n, seed)
        place = root / folder
        place.mkdir(exist_ok=True)
        stored = data.reorder_leads(x.numpy(), data.LEADS, data.REFERENCE_LEADS)
        np.save(place / f"{split}_data.npy", stored)
        np.save(place / f"{split}_labels.npy", y.numpy())
        np.save(place / f"{split}_features.npy", x.numpy().std(-1))
    return root


def evaluation(out: Path) -> dict[str, dict[str, float]]:
    found = json.loads((out / "evaluation.json").read_text())
    return {f"{f['metric']} {f['group']} {f['compared']}": f for f in found["figures"]}


def test_a_folder_of_drawn_records_beside_the_test_split(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    real, drawn = str(folders / "real"), str(folders / "drawn")
    assert main(["evaluate", real, drawn, "--baseline", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "MMD² of signals" in printed
    assert str(out / "evaluation.html") in printed
    found = evaluation(out)
    assert found["mmd all synthetic"]["records"] == 40
    assert found["prd all baseline"]["mean"] == pytest.approx(141.4, abs=4)
    assert {"rmse MI synthetic", "rmse NORM baseline"} <= set(found)
    assert found["fid all synthetic"]["mean"] > 0  # of the features beside the signals
    page = (out / "evaluation.html").read_text()
    assert "By class" in page
    assert "SYNTHETIC" in page
    assert "Power spectral density" in page


def test_arrays_with_labels_beside_them_and_features(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The names that SynthECG's and SSSD-ECG's scripts give."""
    for name, names in (("synthecg", "data_60 labels_60"), ("sssd", "0_samples 0_labels")):
        place = tmp_path / name
        place.mkdir()
        for kind, stem in zip(("data", "labels"), names.split(), strict=True):
            np.save(place / f"{stem}.npy", np.load(folders / "drawn" / f"train_{kind}.npy"))
    found = []
    features = [
        str(folders / p / f"{s}_features.npy") for p, s in (("real", "test"), ("drawn", "train"))
    ]
    for i, where in enumerate(
        (
            [str(tmp_path / "synthecg"), "--synthetic-split", "60"],
            [str(tmp_path / "sssd/0_samples.npy")],
        )
    ):
        out = tmp_path / f"out{i}"
        arguments = ["--metrics", "rmse,fid", "--features", *features, "--out", str(out)]
        assert main(["evaluate", str(folders / "real"), *where, *arguments]) == 0
        found.append(evaluation(out))
    assert found[0] == found[1]
    assert found[0]["fid all synthetic"]["mean"] > 0
    assert "rmse CD synthetic" in found[0]
    capsys.readouterr()


def test_arrays_without_labels_are_compared_as_a_whole(folders: Path, tmp_path: Path) -> None:
    alone = tmp_path / "mine.npy"
    np.save(alone, np.load(folders / "drawn" / "train_data.npy"))
    out = tmp_path / "out"
    arguments = ["--metrics", "rmse", "--out", str(out)]
    assert main(["evaluate", str(folders / "real"), str(alone), *arguments]) == 0
    assert {key.split()[1] for key in evaluation(out)} == {"all"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["real", "nowhere"], "nowhere does not exist"),
        (["real", "drawn", "--split", "val"], "val_data.npy"),
        (["real", "drawn", "--synthetic-split", "7"], "data_7.npy: no such file"),
        (["real", "drawn", "--metrics", "fad"], "no metric 'fad'"),
        (["real", "alone.npy", "--metrics", "fid"], "fid needs features"),
        (
            ["real", "drawn", "--features", "a.npy"],
            "expected a file for each of real, synthetic, got 1",
        ),
        (["real", "short.npy"], "1000 samples, those compared (synthetic) 500"),
        (["real", "ten.npy"], "its labels must have shape (40, classes)"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str],
    message: str,
    folders: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stored = np.load(folders / "drawn" / "train_data.npy")
    np.save(folders / "short.npy", stored[..., :500])
    np.save(folders / "alone.npy", stored)
    (folders / "wrong").mkdir(exist_ok=True)
    np.save(folders / "wrong" / "data_1.npy", stored)
    np.save(folders / "wrong" / "labels_1.npy", np.ones((10, 5)))
    monkeypatch.chdir(folders)
    arguments = ["wrong/data_1.npy" if a == "ten.npy" else a for a in arguments]
    assert main(["evaluate", *arguments, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_unasked(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kept").write_text("mine")
    real, drawn = str(folders / "real"), str(folders / "drawn")
    assert main(["evaluate", real, drawn, "--out", str(tmp_path)]) == 1
    assert "holds files" in capsys.readouterr().err
    arguments = ["--out", str(tmp_path), "--force", "--metrics", "rmse"]
    assert main(["evaluate", real, drawn, *arguments]) == 0
    assert (tmp_path / "kept").read_text() == "mine"

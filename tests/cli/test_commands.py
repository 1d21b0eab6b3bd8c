"""The command line: exit codes, one-line errors, files written and files left alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ecgcore
from ecgcore import data, testing
from ecgcore.cli import main
from ecgcore.sampling.parts import Parts
from support import ROOT, need_shared

CONFIG = str(ROOT / "configs" / "test.json")
COMMANDS = ("doctor", "demo", "train", "sample", "convert", "evaluate", "plot", "bench")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run, made by the command."""
    out = tmp_path_factory.mktemp("runs") / "test"
    assert main(["train", CONFIG, "--out", str(out), "--device", "cpu"]) == 0
    return out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: Any) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: ecgcore {command}")
    assert "--debug" in text


def test_the_list_of_commands_has_a_line_for_each(capsys: Any) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert re.search(rf"^ +{command} +\w", text, re.MULTILINE)
    assert main(["--version"]) == 0
    assert ecgcore.__version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "required: COMMAND"),
        (["dance"], 2, "invalid choice: 'dance'"),
        (["train", "none.json"], 1, "No such file or directory: 'none.json'"),
        (["train", CONFIG, "--data", "/none"], 1, "/none does not exist"),
        (["train", CONFIG, "--batch-size", "0"], 2, "expected an integer >= 1, got '0'"),
        (["train", CONFIG, "--max-minutes", "nan"], 2, "expected a number > 0, got 'nan'"),
        (["sample", "/none/run"], 1, "/none/run"),
        (["plot", "none.npy"], 1, "none.npy: no such file"),
        (["plot", "none", "--out", "a.pdf"], 1, "a.pdf: a sheet is written as .png or .svg"),
        (["convert", "none.pkl"], 1, "none.pkl"),
        (["convert", "none.pkl", "--out", "x.bin"], 1, "x.bin: the result is a .safetensors file"),
    ],
)
def test_errors_are_one_line_and_no_success(
    arguments: list[str], code: int, message: str, capsys: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    if code == 1:
        assert error.count("\n") == 1
        assert error.startswith(f"ecgcore {arguments[0]}: error: ")


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        main(["train", "none.json", "--debug"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA can be used here")
def test_cuda_that_cannot_run_says_why(capsys: Any) -> None:
    assert main(["train", CONFIG, "--device", "cuda"]) == 1
    assert re.search("error: --device cuda: .*CUDA", capsys.readouterr().err)


def test_train_writes_a_run_and_continues_it(run: Path, capsys: Any) -> None:
    assert {p.name for p in run.iterdir()} == {
        "config.json",
        "log.jsonl",
        "checkpoint.safetensors",
        "train_state.pt",
    }
    arguments = ["train", CONFIG, "--out", str(run), "--max-steps", "12"]
    assert main(arguments) == 0
    assert "step 12" in capsys.readouterr().out
    assert main([*arguments, "--learning-rate", "0.5"]) == 1
    assert "choose another --out" in capsys.readouterr().err


def test_train_from_the_weights_of_another_run(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    arguments = ["train", CONFIG, "--init", str(run), "--max-steps", "2", "--out", str(out)]
    assert main(arguments) == 0
    assert json.loads((out / "config.json").read_text())["train"]["init"] == str(run)


def test_sample_writes_arrays_and_sheets(run: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "samples"
    arguments = ["sample", str(run), "--labels", "MI,NORM+CD", "-n", "3", "--out", str(out)]
    assert main([*arguments, "--seed", "5"]) == 0
    assert "3 records, seed 5" in capsys.readouterr().out
    arrays = {p.name: np.load(p) for p in out.glob("*.npy")}
    signals = [a for name, a in arrays.items() if "data" in name]
    labels = [a for name, a in arrays.items() if "label" in name]
    assert signals[0].shape == (3, 12, 100)
    assert labels[0].tolist() == [[0, 0, 1, 0, 0], [1, 0, 0, 1, 0], [0, 0, 1, 0, 0]]
    for name in ("000_MI", "001_CD+NORM", "002_MI"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (out / f"{name}.svg").read_text()[:500]

    assert main([*arguments, "--seed", "6"]) == 1  # nobody's files are overwritten
    assert "holds files; choose another --out, or --force" in capsys.readouterr().err
    assert np.array_equal(np.load(next(out.glob("*data*.npy"))), signals[0])
    assert main([*arguments, "--seed", "5", "--no-sheets", "--force"]) == 0
    assert np.array_equal(np.load(next(out.glob("*data*.npy"))), signals[0])


def test_sample_takes_rows_of_labels_and_every_option(run: Path, tmp_path: Path) -> None:
    rows = np.array([[0, 1, 0, 0, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    np.save(tmp_path / "rows.npy", rows)
    out = tmp_path / "samples"
    options = {
        "--labels": str(tmp_path / "rows.npy"), "--split": "test", "--sheets": "1",
        "--sampler": "ddim", "--steps": "3", "--eta": "0.5", "--start": "matched", "--rate": "0.5",
        "--precision": "bf16", "--batch-size": "2", "--seed": "1", "--out": str(out),
    }  # fmt: skip
    arguments = [word for option in options.items() for word in option]
    assert main(["sample", str(run), *arguments]) == 0
    assert {p.name for p in out.iterdir()} == {
        *("test_data.npy", "test_labels.npy", "000_HYP+STTC.png", "000_HYP+STTC.svg")
    }
    assert np.array_equal(np.load(out / "test_labels.npy"), rows)
    batch = ecgcore.load(run).sample(
        rows.astype(np.float32), sampler="ddim", steps=3, eta=0.5, start="matched", rate=0.5,
        precision="bf16", batch_size=2, seed=1,
    )  # fmt: skip
    batch.to_npy(tmp_path / "memory", "test")
    memory = (tmp_path / "memory" / "test_data.npy").read_bytes()
    numbered = ["--labels", str(tmp_path / "rows.npy"), "--split", "60", "--no-sheets"]
    again = tmp_path / "synthecg"
    assert main(["sample", str(run), *arguments[6:-2], *numbered, "--out", str(again)]) == 0
    assert {p.name for p in again.iterdir()} == {"data_60.npy", "labels_60.npy"}
    assert (again / "data_60.npy").read_bytes() == memory
    assert (out / "test_data.npy").read_bytes() == memory
    assert batch.x.shape == (3, 12, 200)


def test_sample_keeps_what_is_known(run: Path, tmp_path: Path, capsys: Any) -> None:
    x, _ = data.simulate(2, seed=0, seconds=1.0)
    np.save(tmp_path / "a.npy", data.reorder_leads(x, data.LEADS, data.REFERENCE_LEADS))
    data.write_record(tmp_path, "b", x[0], 100)
    record = data.read_record(tmp_path / "b").millivolts()
    for name, keep, rows, count in (
        ("a.npy", "I,II", slice(0, 2), 2),
        ("b", "V1,v2,0.2-0.5s", slice(6, 8), 5),
    ):
        out = tmp_path / f"out_{name}"
        arguments = ["sample", str(run), "--known", str(tmp_path / name), "--keep", keep]
        assert main([*arguments, "--no-sheets", "--out", str(out)]) == 0
        drawn = np.load(out / "train_data.npy")
        assert len(drawn) == count  # a record for each given, or a given one in each class
        drawn = data.reorder_leads(drawn, data.REFERENCE_LEADS, data.LEADS)
        known = x.numpy() if count == 2 else record
        span = slice(None) if count == 2 else slice(20, 50)
        assert np.abs(drawn - known)[:, rows, span].max() <= 1e-5
        assert np.abs(drawn - known)[:, 9:].max() > 0.01
    capsys.readouterr()
    for wrong, message in (
        (["--known", str(tmp_path / "b")], "--known FILE and --keep WHAT go together"),
        (
            ["--known", str(tmp_path / "b"), "--keep", "I,0-2s"],
            "'0-2s' is no span of a record of 1",
        ),
        (["--known", str(tmp_path / "b"), "--keep", "aVR"], "of the limb leads only aVR is kept"),
        (
            ["--known", str(tmp_path / "b"), "--keep", "I", "--rate", "0.2"],
            "has 100 Hz, the records to be drawn 500 Hz",
        ),
        (["--guidance", "2"], "needs a model trained with label dropout"),
        (["--labels", str(tmp_path / "a.npy")], "expected rows of class weights (k, classes)"),
        (["--eta", "nan"], "expected a number, got 'nan'"),
    ):
        assert main(["sample", str(run), *wrong, "--out", str(tmp_path / "none")]) != 0
        assert message in capsys.readouterr().err
        assert not (tmp_path / "none").exists()


def test_sample_goes_on_where_it_was_stopped(
    run: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    out = tmp_path / "samples"
    arguments = ["sample", str(run), "-n", "5", "--batch-size", "2", "--out", str(out)]
    save = Parts.save

    def stop(self: Parts, part: int, x: torch.Tensor) -> None:
        if part == 1:
            raise KeyboardInterrupt
        save(self, part, x)

    with monkeypatch.context() as patched:
        patched.setattr(Parts, "save", stop)
        assert main(arguments) == 130
    kept = f"ecgcore sample: interrupted; 2 of 5 records are kept in {out / 'parts'}"
    assert kept in capsys.readouterr().err
    assert main([*arguments, "--sampler", "ddim"]) == 1
    assert "sampler = 'ddpm', not 'ddim'; choose another folder" in capsys.readouterr().err
    assert main([*arguments, "--no-sheets"]) == 0
    assert {p.name for p in out.iterdir()} == {"train_data.npy", "train_labels.npy"}


def test_sample_names_the_classes_there_are(run: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["sample", str(run), "--labels", "AFIB", "--out", str(tmp_path / "s")]) == 1
    error = capsys.readouterr().err
    assert "AFIB" in error
    assert "STTC" in error
    assert not (tmp_path / "s").exists()


@pytest.fixture(scope="module")
def gan_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained GAN, made by the command."""
    out = tmp_path_factory.mktemp("runs") / "gan"
    config = str(ROOT / "configs" / "test_gan.json")
    assert main(["train", config, "--out", str(out), "--device", "cpu", "--epochs", "2"]) == 0
    return out


def test_a_gan_is_trained_and_sampled(gan_run: Path, tmp_path: Path, capsys: Any) -> None:
    assert {p.name for p in gan_run.iterdir()} == {
        *("config.json", "log.jsonl", "checkpoint.safetensors", "train_state.pt")
    }
    last = (gan_run / "log.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["step"] == 5  # two epochs of ten records in batches of four
    out = tmp_path / "samples"
    arguments = ["sample", str(gan_run), "--labels", "MI,NORM+CD", "-n", "3", "--out", str(out)]
    assert main([*arguments, "--seed", "5"]) == 0
    assert np.load(out / "train_data.npy").shape == (3, 12, 250)
    assert (out / "001_CD+NORM.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    for wrong, message in (
        (["--steps", "9"], "takes neither steps nor a sampler; got steps=9"),
        (["--length", "300"], "length must be a multiple of 125, got 300; the next ones are 250"),
    ):
        assert main([*arguments, *wrong, "--force"]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_convert_keeps_both_networks_of_a_gan(gan_run: Path, tmp_path: Path, capsys: Any) -> None:
    model: Any = ecgcore.load(gan_run)
    content = {
        "modelG_state_dict": ecgcore.compat.export_state_dict(model),
        "modelD_state_dict": ecgcore.compat.export_state_dict(model.discriminator),
    }
    torch.save(content, tmp_path / "3.pkl")
    (tmp_path / "3.json").write_text(json.dumps(model.config))
    assert main(["convert", str(tmp_path / "3.pkl")]) == 0
    assert "dropped deconv_2.Conv1dTrans.weight: built and stored" in capsys.readouterr().out
    converted = ecgcore.load(tmp_path / "3.safetensors").state_dict()
    assert all(torch.equal(value, converted[key]) for key, value in model.state_dict().items())


def test_plot_draws_arrays_and_records(tmp_path: Path, capsys: Any) -> None:
    x, _ = data.simulate(2, seed=0)
    np.save(tmp_path / "a.npy", data.reorder_leads(x, data.LEADS, data.REFERENCE_LEADS))
    np.savez(tmp_path / "b.npz", x_uV=(1000 * x).round().to(torch.int16), leads=data.LEADS, fs=100)
    data.write_record(tmp_path, "c", x[0], 100)
    for arguments in (["a.npy", "--index", "1"], ["b.npz", "--out", "b.svg"], ["c", "--real"]):
        paths = [str(tmp_path / a) if "." in a or a == "c" else a for a in arguments]
        assert main(["plot", *paths]) == 0
        sheet = Path(capsys.readouterr().out.strip())
        assert sheet.stat().st_size > 10_000
    assert main(["plot", str(tmp_path / "a.npy")]) == 1
    assert "exists; choose another --out, or --force" in capsys.readouterr().err
    assert main(["plot", str(tmp_path / "a.npy"), "--index", "2", "--force"]) == 1
    assert "has 2 records" in capsys.readouterr().err
    np.save(tmp_path / "d.npy", np.zeros((3, 5)))
    assert main(["plot", str(tmp_path / "d.npy")]) == 1
    assert "expected an array" in capsys.readouterr().err


def test_plot_reads_a_published_record(tmp_path: Path) -> None:
    record = need_shared("data", "ptbxl_mini", "records100", "00000", "00001_lr.hea")
    assert main(["plot", str(record), "--out", str(tmp_path / "1.png"), "--real"]) == 0


def test_convert_makes_a_reference_checkpoint_ours(run: Path, tmp_path: Path, capsys: Any) -> None:
    model = ecgcore.load(run)
    torch.save({"model_state_dict": model.state_dict()}, tmp_path / "7.pkl")
    assert main(["convert", str(tmp_path / "7.pkl")]) == 0
    assert "7.safetensors" in capsys.readouterr().out
    converted = ecgcore.load(tmp_path / "7.safetensors").state_dict()
    assert all(torch.equal(value, converted[key]) for key, value in model.state_dict().items())
    assert main(["convert", str(tmp_path / "7.pkl")]) == 1
    assert "exists" in capsys.readouterr().err


def test_doctor_reports_and_judges(capsys: Any, monkeypatch: Any) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert ecgcore.backends()["cpu"]["isa"] in text
    assert torch.__version__ in text
    assert re.search(r"^cuda +(on|off: .{10,})$", text, re.MULTILINE)
    assert re.search(r"(\d+) of \1 figures within their limits", text)

    bad = testing.Result("cauchy", "case", "float32", "output", error=1.0, limit=1e-6)
    good = testing.Result("cauchy", "case", "float32", "grad v", error=0.0, limit=1e-6)
    monkeypatch.setattr(testing, "quick_check", lambda: [bad, good])
    assert main(["doctor"]) == 1
    assert "FAILED cauchy case output: error 1.0e+00, allowed 1.0e-06" in capsys.readouterr().out


def test_the_module_is_the_command() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "ecgcore", "--version"], capture_output=True, text=True, check=True
    )
    assert made.stdout == f"ecgcore {ecgcore.__version__}\n"


def test_bench_runs_the_benchmark_of_the_clone(monkeypatch: Any, tmp_path: Path) -> None:
    ran: list[list[str]] = []

    def fake(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(subprocess, "run", fake)
    assert main(["bench", "--", "--quick", "--op", "cauchy"]) == 3
    assert ran == [[sys.executable, str(ROOT / "bench" / "ops.py"), "--quick", "--op", "cauchy"]]


def test_bench_says_where_it_belongs(monkeypatch: Any, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.setattr(ecgcore, "__path__", [str(tmp_path / "lib" / "ecgcore")])
    monkeypatch.chdir(tmp_path)
    assert main(["bench"]) == 1
    assert "run this from a clone" in capsys.readouterr().err

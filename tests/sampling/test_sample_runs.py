"""Runs into files: the same as in memory, stopped anywhere and taken up again."""

from __future__ import annotations

import dataclasses
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ecgcore import checkpoint, data, sampling
from ecgcore.diffusion import Moments
from ecgcore.errors import DataError, EcgcoreError
from ecgcore.sampling import runs
from ecgcore.sampling.parts import Parts
from ecgcore.sampling.plan import Plan
from ecgcore.sampling.runs import sample_to, unfinished
from tiny import loaded_sssd, tiny_dsat
from tiny_gan import NAMES, tiny_gan

SETTINGS: dict[str, Any] = {"n": 7, "seed": 3, "batch_size": 2}


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def in_memory(model: Any, folder: Path, **options: Any) -> dict[str, bytes]:
    """What ``ECGBatch.to_npy`` writes."""
    sampling.sample(model, **options).to_npy(folder)
    return contents(folder)


class Stop:
    """Lets ``Parts.save`` fail after so many parts."""

    def __init__(self, after: int, error: BaseException) -> None:
        self.left, self.error = after, error

    def __call__(self, parts: Parts, part: int, x: torch.Tensor) -> None:
        if self.left == 0:
            raise self.error
        self.left -= 1
        SAVE(parts, part, x)


SAVE = Parts.save


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``stopped(model, folder, after=k, **options)``: a run that ended after k parts."""

    def run(model: Any, folder: Path, after: int = 2, **options: Any) -> str:
        with monkeypatch.context() as patched:
            stop = Stop(after, KeyboardInterrupt())
            patched.setattr(Parts, "save", lambda *arguments: stop(*arguments))
            with pytest.raises(KeyboardInterrupt) as e:
                sample_to(folder, model, **SETTINGS | options)
        return str(e.value)

    return run


# --- what comes out -------------------------------------------------------------------------------


def test_the_files_are_those_of_a_batch(tmp_path: Path) -> None:
    model = loaded_sssd()
    made = sample_to(tmp_path / "a", model, ["MI", "NORM+CD"], n=7, seed=3, batch_size=3)
    batch = model.sample(["MI", "NORM+CD"], n=7, seed=3, batch_size=3)
    batch.to_npy(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    first = made.first(4)
    assert torch.equal(first.x, batch.x[:4])
    assert torch.equal(first.labels, batch.labels[:4])
    assert (first.leads, first.fs, first.seed) == (data.LEADS, 100, 3)
    assert len(made.first(99)) == made.count == 7


def test_names_options_and_what_is_kept(tmp_path: Path) -> None:
    model = loaded_sssd()
    model.card = dataclasses.replace(model.card, fs=100)
    known = torch.randn(5, 12, 90)
    options: dict[str, Any] = {
        "sampler": "dpm++", "steps": 2, "rate": 0.5, "known": known, "seed": 1,
        "mask": sampling.keep("V1,V2", length=90, fs=200),
    }  # fmt: skip
    made = sample_to(tmp_path / "a", model, split="test", batch_size=2, **options)
    model.sample(**options, batch_size=2).to_npy(tmp_path / "b", "test")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert made.fs == 200
    assert torch.equal(made.first(5).x[:, 6:8], known[:, 6:8])


def test_a_gan_draws_many_batches_to_a_part(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(runs, "GAN_BATCHES", 2)
    gan: Any = tiny_gan(NAMES[0])
    gan.card = checkpoint._implied_card(gan)
    wanted = in_memory(gan, tmp_path / "memory", **SETTINGS)
    saved = []
    monkeypatch.setattr(Parts, "save", lambda *a: (saved.append(len(a[2])), SAVE(*a)))
    sample_to(tmp_path / "run", gan, **SETTINGS)
    assert contents(tmp_path / "run") == wanted
    assert saved == [4, 3]


def test_memory_does_not_grow_with_the_number_of_records(tmp_path: Path, monkeypatch: Any) -> None:
    alive: list[weakref.ref[torch.Tensor]] = []
    draw = Plan.draw

    def watched(self: Plan, records: range, step: Any = None) -> torch.Tensor:
        x = draw(self, records, step)
        assert sum(ref() is not None for ref in alive) <= 1  # the one before, at most
        alive.append(weakref.ref(x))
        return x

    monkeypatch.setattr(Plan, "draw", watched)
    sample_to(tmp_path, loaded_sssd(T=1), n=24, seed=1, batch_size=2)
    assert len(alive) == 12


# --- stopped and taken up again -------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 2, 3])
def test_a_stopped_run_goes_on_to_the_same_files(after: int, stopped: Any, tmp_path: Path) -> None:
    model = loaded_sssd()
    wanted = in_memory(model, tmp_path / "memory", **SETTINGS)
    said = stopped(model, tmp_path / "run", after)
    assert said.startswith(f"{2 * after} of 7 records are kept in {tmp_path / 'run' / 'parts'}")
    assert unfinished(tmp_path / "run")
    sample_to(tmp_path / "run", model, **SETTINGS)
    assert contents(tmp_path / "run") == wanted
    assert not unfinished(tmp_path / "run")


def test_only_what_is_missing_is_drawn(stopped: Any, tmp_path: Path, monkeypatch: Any) -> None:
    model = loaded_sssd()
    stopped(model, tmp_path)
    (tmp_path / "parts" / "00000000.npy").unlink()
    asked, draw = [], Plan.draw
    monkeypatch.setattr(
        Plan, "draw", lambda self, records, step: (asked.append(records), draw(self, records))[1]
    )
    sample_to(tmp_path, model, **SETTINGS)
    assert asked == [range(2), range(4, 6), range(6, 7)]


def test_a_drawn_seed_is_kept(stopped: Any, tmp_path: Path) -> None:
    model = loaded_sssd()
    stopped(model, tmp_path / "run", seed=None)
    made = sample_to(tmp_path / "run", model, n=7, batch_size=2)
    wanted = in_memory(model, tmp_path / "memory", **SETTINGS | {"seed": made.seed})
    assert contents(tmp_path / "run") == wanted


def test_kernels_that_grow_are_no_other_model(stopped: Any, tmp_path: Path) -> None:
    """DSAT-ECG corrects its kernels in its first forward, in place; longer records double them."""
    model: Any = tiny_dsat()
    model.card = checkpoint._implied_card(model)
    stopped(model, tmp_path, length=100)
    sample_to(tmp_path, model, **SETTINGS, length=100)
    assert np.load(tmp_path / "train_data.npy").shape == (7, 12, 100)


def test_a_run_killed_while_it_was_joined(stopped: Any, tmp_path: Path, monkeypatch: Any) -> None:
    model = loaded_sssd()
    wanted = in_memory(model, tmp_path / "memory", **SETTINGS)

    def killed(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(Parts, "remove", killed)
        with pytest.raises(MemoryError):
            sample_to(tmp_path / "run", model, **SETTINGS)
    (tmp_path / "run" / ".train_data.77.tmp.npy").write_bytes(b"half")
    monkeypatch.setattr(Plan, "draw", killed)  # nothing is drawn again
    sample_to(tmp_path / "run", model, **SETTINGS)
    assert contents(tmp_path / "run") == wanted


KNOWN = torch.randn(12, 40)
YES = torch.ones(12, 1, dtype=torch.bool)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 4}, "seed = 3, not 4"),
        ({"n": 8}, "records = 7, not 8"),
        ({"labels": "MI"}, "labels = '5 of .*', not '1 of "),
        ({"labels": torch.full((5, 5), 0.5)}, "labels = '5 of .*', not '5 of "),
        ({"sampler": "ddim"}, "sampler = 'ddpm', not 'ddim'"),
        ({"sampler": "dpm++", "steps": 2}, "sampler = 'ddpm', not 'dpm"),
        ({"length": 41}, "length = 40, not 41"),
        ({"precision": "bf16"}, "precision = 'fp32', not 'bf16'"),
        ({"start": Moments(torch.zeros(1), torch.ones(1))}, "start = 'normal', not 'moments "),
        ({"rate": 0.5, "length": 40}, "rate = 1.0, not 0.5"),
        ({"known": KNOWN, "mask": YES & (torch.arange(12) > 8)[:, None]}, "known = None, not '"),
        ({"split": "val"}, "split = 'train', not 'val'"),
        ({"batch_size": 3}, "batch_size = 2, not 3"),
    ],
)
def test_a_run_does_not_go_on_under_other_settings(
    options: dict[str, Any], message: str, stopped: Any, tmp_path: Path
) -> None:
    model = loaded_sssd()
    stopped(model, tmp_path)
    with pytest.raises(EcgcoreError, match=f"holds an unfinished run with {message}.*start anew"):
        sample_to(tmp_path, model, **SETTINGS | options)
    assert len(list((tmp_path / "parts").glob("*.npy"))) == 2  # all still there


def test_nor_with_other_weights_or_another_card(stopped: Any, tmp_path: Path) -> None:
    model = loaded_sssd()
    stopped(model, tmp_path)
    card = model.card
    model.card = dataclasses.replace(card, scale=2.0)
    with pytest.raises(EcgcoreError, match=r"with model = 'SSSDECG .*', not 'SSSDECG "):
        sample_to(tmp_path, model, **SETTINGS)
    model.card = card
    with torch.no_grad():
        model.final_conv[2].conv.bias[0] += 1
    with pytest.raises(EcgcoreError, match="with model = 'SSSDECG "):
        sample_to(tmp_path, model, **SETTINGS)


def test_starting_anew(stopped: Any, tmp_path: Path) -> None:
    model = loaded_sssd()
    stopped(model, tmp_path)
    wanted = in_memory(model, tmp_path / "memory", **SETTINGS | {"seed": 4})
    run = tmp_path / "run"
    stopped(model, run)
    sample_to(run, model, **SETTINGS | {"seed": 4}, resume=False)
    assert contents(run) == wanted
    stopped(model, tmp_path / "empty", after=0)  # nothing is lost there
    sample_to(tmp_path / "empty", model, **SETTINGS | {"seed": 4})
    assert contents(tmp_path / "empty") == wanted


def test_files_that_are_there_are_left_alone(tmp_path: Path) -> None:
    model = loaded_sssd()
    (tmp_path / "train_labels.npy").write_text("mine")
    with pytest.raises(FileExistsError, match=r"train_labels.npy exists; .*overwrite=True"):
        sample_to(tmp_path, model, **SETTINGS)
    assert contents(tmp_path) == {"train_labels.npy": b"mine"}
    sample_to(tmp_path, model, **SETTINGS, overwrite=True)
    assert np.load(tmp_path / "train_labels.npy").shape == (7, 5)


def test_damaged_files_are_named(stopped: Any, tmp_path: Path) -> None:
    model = loaded_sssd()
    stopped(model, tmp_path)
    part = tmp_path / "parts" / "00000001.npy"
    for damage, message in (
        (lambda: np.save(part, np.zeros((2, 12, 39), np.float32)), r"expected float32 \(2, 12, 40"),
        (lambda: part.write_bytes(b"\x93NUM"), "not a readable array"),
    ):
        damage()
        with pytest.raises(DataError, match=f"00000001.npy: {message}.*remove it and run the same"):
            sample_to(tmp_path, model, **SETTINGS)
    (tmp_path / "parts" / "settings.json").write_text('{"format": 1}')
    with pytest.raises(DataError, match=r"settings.json: not the settings of a run"):
        sample_to(tmp_path, model, **SETTINGS)
    (tmp_path / "parts" / "settings.json").write_text('{"format": 2, "settings": {}}')
    with pytest.raises(DataError, match="format 2, this version reads 1"):
        sample_to(tmp_path, model, **SETTINGS)


def test_wrong_arguments_leave_nothing_behind(tmp_path: Path) -> None:
    for options, error, match in (
        ({"labels": "MY"}, DataError, "'MY' does not exist"),
        ({"colour": 3}, TypeError, "colour"),
        ({"split": "mine"}, ValueError, "split must be 'train', .* got 'mine'"),
        ({"split": -1}, ValueError, "split must be .* the number of a checkpoint, got -1"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
    ):
        with pytest.raises(error, match=match):
            sample_to(tmp_path / "a", loaded_sssd(), **SETTINGS | options)
        assert not (tmp_path / "a").exists()


def test_the_bar_counts_records_over_the_whole_run(
    stopped: Any, tmp_path: Path, capsys: Any
) -> None:
    model = loaded_sssd()
    stopped(model, tmp_path)
    assert capsys.readouterr().err == ""
    sample_to(tmp_path, model, **SETTINGS, progress=True)
    shown = capsys.readouterr().err.split("\r")
    assert " 4/7 records" in shown[1]
    assert "100%" in shown[-1]
    assert " 7/7 records" in shown[-1]

"""Batches and partners of records, and the evaluation of all metrics."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecgcore import data, metrics
from ecgcore.errors import DataError
from ecgcore.metrics import Records


def labels(n: int, rng: np.random.Generator) -> np.ndarray:
    """Of five classes, the last one rare."""
    return (rng.random((n, 5)) < [0.5, 0.4, 0.3, 0.2, 0.04]).astype(np.float32)


def test_folds_hold_every_class_in_its_share() -> None:
    rng = np.random.default_rng(0)
    y = labels(1000, rng)
    folds = metrics.stratified_folds(y, 4, rng)
    assert sorted(np.concatenate(folds)) == list(range(1000))
    counts = np.array([y[fold].sum(0) for fold in folds])
    assert np.abs(counts - y.sum(0) / 4).max() <= 3
    assert max(map(len, folds)) - min(map(len, folds)) <= 6
    lot = np.array([part.sum(0) for part in np.array_split(y[rng.permutation(1000)], 4)])
    assert np.abs(counts - counts.mean(0)).max() < np.abs(lot - lot.mean(0)).max()
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.1000.*got 0"):
        metrics.stratified_folds(y, 0, rng)


def test_partners_have_the_same_labels_and_are_used_once() -> None:
    rng = np.random.default_rng(0)
    y = labels(300, rng)
    there = y[rng.permutation(300)]
    rows, others = metrics.matched(y, there, rng)
    assert others == 0
    assert np.array_equal(there[rows], y)
    assert sorted(rows) == list(range(300))
    # Too few: used in turn. None at all: the nearest.
    wanted = np.array([[1, 0, 0]] * 4 + [[1, 1, 1]])
    rows, others = metrics.matched(wanted, np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0]]), rng)
    assert sorted(np.bincount(rows[:4])) == [2, 2]
    assert rows[4] == 2
    assert others == 1


@pytest.fixture(scope="module")
def simulated() -> dict[str, Records]:
    found = {}
    for name, seed in (("real", 1), ("other", 2)):
        x, y = data.simulate(60, seed, seconds=6.0)
        found[name] = Records(x.numpy(), y.numpy(), x.numpy().std(-1))
    return found


def noisy(records: Records, amount: float) -> Records:
    noise = np.random.default_rng(0).standard_normal(records.x.shape).astype(np.float32)
    x = records.x + amount * noise
    return replace(records, x=x, features=x.std(-1))


def test_figures_of_worse_records_are_worse(simulated: dict[str, Records]) -> None:
    real, other = simulated["real"], simulated["other"]
    found = metrics.evaluate(
        real,
        noisy(other, 0.2),
        baseline=other,
        class_names=data.SUPERCLASSES,
        metrics=metrics.METRICS,
        batch_size=30,
        pairs=9,
    )
    for metric in ("psd_mmd", "psd_prd", "rmse", "nmi_difference", "fid", "kid", "dtw"):
        drawn, beside = found.figure(metric), found.figure(metric, compared="baseline")
        assert drawn is not None
        assert beside is not None
        assert drawn.mean > beside.mean, metric
        assert (drawn.batches, drawn.records) == (2, 60)
    assert {figure.metric for figure in found.figures} == {
        *metrics.METRICS,
        "nmi_real",
        "nmi_difference",
    }
    assert {figure.group for figure in found.figures} == {"all", *data.SUPERCLASSES}
    assert found.signals["synthetic"]["noise_uv"] > found.signals["baseline"]["noise_uv"]


def test_one_batch_is_what_the_functions_say(simulated: dict[str, Records]) -> None:
    real, other = (replace(simulated[name], labels=None) for name in ("real", "other"))
    found = metrics.evaluate(real, other, batch_size=100)
    figure = found.figure("mmd")
    assert figure is not None
    assert figure.mean == pytest.approx(metrics.mmd(real.x, other.x), rel=1e-9)
    assert (figure.std, figure.batches) == (None, 1)
    assert {f.metric for f in found.figures} >= {"fid", "kid"}  # features are there
    assert found.figure("dtw") is None


def test_a_seed_gives_the_same_batches_and_another_other_ones(
    simulated: dict[str, Records], tmp_path: Path
) -> None:
    real, other = simulated["real"], simulated["other"]
    chosen = {"metrics": ("rmse",), "batch_size": 20, "class_names": data.SUPERCLASSES}
    runs = [metrics.evaluate(real, other, seed=seed, **chosen) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    runs[0].to_json(tmp_path / "e.json")
    kept = json.loads((tmp_path / "e.json").read_text())
    assert kept["figures"][0]["mean"] == runs[0].figures[0].mean
    assert kept["settings"]["seed"] == 1


def test_records_with_the_same_labels_in_the_same_order_go_row_by_row(
    simulated: dict[str, Records],
) -> None:
    real = simulated["real"]
    found = metrics.evaluate(real, real, metrics=("nmi",), batch_size=20)
    figure = found.figure("nmi_difference")
    assert figure is not None
    assert figure.mean == 0
    assert not found.notes


def test_all_sets_are_held_against_the_same_batches(simulated: dict[str, Records]) -> None:
    real = simulated["real"]
    found = metrics.evaluate(real, real, baseline=replace(real), metrics=("rmse",), batch_size=20)
    drawn, beside = found.figure("rmse"), found.figure("rmse", compared="baseline")
    assert drawn is not None
    assert beside == replace(drawn, compared="baseline")


def test_no_batch_has_a_single_record(simulated: dict[str, Records]) -> None:
    real = simulated["real"].take(np.arange(11))
    found = metrics.evaluate(
        real, simulated["other"], metrics=("mmd",), batch_size=2, class_names=data.SUPERCLASSES
    )
    for figure in found.figures:
        assert figure.batches <= figure.records // 2


def test_what_could_not_be_done_as_asked_is_noted(simulated: dict[str, Records]) -> None:
    real, other = simulated["real"], simulated["other"]
    assert other.labels is not None
    only = other.take(np.flatnonzero(other.labels[:, 3] > 0))
    found = metrics.evaluate(real, only, metrics=("rmse",), class_names=("a", "b", "c", "d", "e"))
    assert any(
        "have no counterpart with the same labels among the synthetic" in n for n in found.notes
    )
    assert any("too few synthetic records for 60 real ones" in n for n in found.notes)


def test_sets_that_do_not_go_together_are_refused(simulated: dict[str, Records]) -> None:
    real, other = simulated["real"], simulated["other"]
    with pytest.raises(ValueError, match="no metric 'fad'; there are mmd"):
        metrics.evaluate(real, other, metrics=("fad",))
    with pytest.raises(ValueError, match="fid needs features of every set"):
        metrics.evaluate(real, replace(other, features=None), metrics=("fid",))
    with pytest.raises(DataError, match=r"real records have 600 samples, those compared .* 599"):
        metrics.evaluate(real, replace(other, x=other.x[..., :-1]))
    with pytest.raises(DataError, match=r"real records have 5 labels, .* none"):
        metrics.evaluate(real, replace(other, labels=None))
    with pytest.raises(DataError, match="4 class names for labels of 5 classes"):
        metrics.evaluate(real, other, class_names=data.SUPERCLASSES[:4])
    with pytest.raises(DataError, match=r"labels must have shape \(60, ...\)"):
        replace(real, labels=np.ones((3, 5)))
    with pytest.raises(ValueError, match="batch_size must be at least 2, got 1"):
        metrics.evaluate(real, other, batch_size=1)
    with pytest.raises(DataError, match="at least two records"):
        metrics.evaluate(real, other.take(np.arange(1)))

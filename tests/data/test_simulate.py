"""The simulator: exact lead relations, reproducible records, and classes that show."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from ecgcore.data import LEADS, SUPERCLASSES, check_leads, simulate, simulate_beats, to_twelve_leads
from ecgcore.errors import DataError


def test_shapes_units_and_labels():
    x, y = simulate(12, 0)
    assert x.shape == (12, 12, 1000)
    assert x.dtype == y.dtype == torch.float32
    assert torch.equal(y, torch.eye(5).repeat(3, 1)[:12])
    check_leads(x, LEADS, 100)
    assert simulate(3, 0, fs=500, seconds=2.5)[0].shape == (3, 12, 1250)
    assert simulate(0, 0)[0].shape == (0, 12, 1000)


def test_lead_relations_hold_to_rounding():
    x, _ = simulate(50, 1)
    lead = dict(zip(LEADS, x.unbind(1), strict=True))
    assert torch.equal(lead["III"], lead["II"] - lead["I"])
    for residual in (
        lead["aVR"] + (lead["I"] + lead["II"]) / 2,
        lead["aVL"] - (lead["I"] - lead["III"]) / 2,
        lead["aVF"] - (lead["II"] + lead["III"]) / 2,
    ):
        assert residual.abs().max() < 1e-6
    eight = x[:, [0, 1, 6, 7, 8, 9, 10, 11]]
    assert torch.equal(to_twelve_leads(eight, basis="I-II", order="ptbxl"), x)


def test_a_record_depends_on_seed_and_position_alone():
    x, _ = simulate(8, 5)
    assert torch.equal(simulate(8, 5)[0], x)
    assert torch.equal(simulate(3, 5)[0], x[:3])
    assert torch.equal(simulate(8, 5, labels=list(SUPERCLASSES) * 2)[0], x)
    assert not torch.equal(simulate(8, 6)[0], x)
    assert len({record.numpy().tobytes() for record in x}) == 8


def test_same_heart_at_another_sampling_rate():
    """Noise apart, 500 Hz is the finer picture of the same beats."""
    coarse, fine = simulate_beats(5, 2, fs=100), simulate_beats(5, 2, fs=500)
    for a, b in zip(coarse.r_peaks, fine.r_peaks, strict=True):
        np.testing.assert_allclose(a, b[: len(a)], atol=1e-12)
    for a, b in zip(coarse.x, fine.x[..., ::5], strict=True):
        assert (a - b).abs().max() < 0.1


@pytest.mark.parametrize("spread", [0.0, 0.4, 1.0])
def test_r_peaks_are_where_the_signal_peaks(spread):
    drawn = simulate_beats(20, 3, labels="NORM", spread=spread)
    for x, peaks, rate in zip(drawn.x, drawn.r_peaks, drawn.heart_rate, strict=True):
        assert 45 <= rate <= 100
        assert abs(60 / np.diff(peaks).mean() - rate) < 0.06 * rate
        energy = x.diff(dim=-1).square().mean(0).sqrt()
        for peak in peaks[(peaks > 0.1) & (peaks < 9.9)]:
            near = energy[int(100 * peak) - 10 : int(100 * peak) + 10]
            assert near.max() > 0.5 * energy.quantile(0.985)


def test_spread_scales_the_variation_between_records():
    def variation(spread):
        drawn = simulate_beats(60, 4, labels="NORM", spread=spread)
        return drawn.heart_rate.std(), drawn.x.std(-1).std(0).mean()

    full, easy, none = variation(1.0), variation(0.4), variation(0.0)
    for a, b, c in zip(full, easy, none, strict=True):
        assert 0.3 < b / a < 0.55
        assert c < 0.2 * a


def beat(label, spread=0.0, seed=0, n=12):
    """Mean beats ``(n, 12, 70)`` from 0.3 s before to 0.4 s after R, baseline between T and P
    removed.
    """
    drawn = simulate_beats(n, seed, fs=100, labels=label, spread=spread)
    beats = []
    for x, peaks in zip(drawn.x.numpy(), drawn.r_peaks, strict=True):
        at = [round(100 * p) for p in peaks if 0.5 < p < 9.4]
        beats.append(np.mean([x[:, i - 30 : i + 40] - x[:, [i - 28]] for i in at], axis=0))
    return np.stack(beats)


def row(lead):
    return LEADS.index(lead)


def test_classes_show_their_signs():
    """What a reader would look for, on mean beats without spread; R at sample 30."""
    normal = beat("NORM")
    assert (normal[:, row("II"), 30] > 0.6).all()  # upright R in II
    assert (normal[:, row("V1")].min(-1) < -0.5).all()  # rS in V1
    assert (normal[:, row("V6"), 55:62].mean(-1) > 0.1).all()  # upright T
    assert (normal[:, row("II"), 12:17].max(-1) > 0.03).all()  # P before

    hypertrophy = beat("HYP")
    assert (hypertrophy[:, row("V5")].max(-1) > 1.5 * normal[:, row("V5")].max(-1).mean()).all()

    def width(x):  # samples where the vector moves fast
        energy = np.sqrt((np.diff(x, axis=-1) ** 2).mean(1))
        return (energy > 0.15 * energy.max(-1, keepdims=True)).sum(-1)

    assert (width(beat("CD")) > width(normal).max()).all()

    depressed = beat("STTC")[:, row("V5"), 40:44].mean(-1)
    assert (depressed < normal[:, row("V5"), 40:44].mean(-1).min() - 0.04).all()

    infarction = beat("MI", n=40)
    anterior = infarction[:, row("V2"), 43] > normal[:, row("V2"), 43].mean() + 0.08
    inferior = infarction[:, row("aVF"), 43] > normal[:, row("aVF"), 43].mean() + 0.05
    assert (anterior != inferior).all()
    assert 10 < anterior.sum() < 30


def test_classes_combine():
    both = beat("HYP+MI", n=20)
    assert (
        np.median(both[:, row("V5")].max(-1)) > 1.3 * beat("MI", n=20)[:, row("V5")].max(-1).mean()
    )
    x, y = simulate(2, 0, labels=np.zeros((1, 5)))
    assert torch.equal(y, torch.zeros(2, 5))
    assert torch.equal(x, simulate(2, 0, labels="NORM")[0])


def test_amplitudes_are_those_of_real_records(shared):
    x, _ = simulate(200, 0)
    simulated = x.std(dim=(0, 2)).numpy()
    stored = np.load(shared / "data" / "ptbxl_real_100hz.npz", allow_pickle=False)["x_uV"] / 1000
    ratio = simulated / stored.std(axis=(0, 2))
    assert 0.4 < ratio.min() < ratio.max() < 1.6


def test_fifteen_hundred_records_take_seconds():
    start = time.process_time()
    simulate(150, 0)
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": -1}, ValueError, "n must be a whole number >= 0, got -1"),
        ({"n": 2.0}, ValueError, "n must be a whole number"),
        ({"seed": -1}, ValueError, "seed must be a whole number in"),
        ({"fs": 0}, ValueError, "at least one sample"),
        ({"seconds": float("nan")}, ValueError, "at least one sample"),
        (
            {"labels": "NROM"},
            DataError,
            r"simulate: label 'NROM' does not exist.*did you mean NORM",
        ),
        ({"labels": np.full((1, 5), 0.5)}, DataError, "0 and 1 only"),
        ({"labels": np.ones((1, 4))}, ValueError, r"shape \(k, 5\)"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        simulate(**{"n": 2, "seed": 0} | arguments)


def test_spread_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"spread must lie in 0\.\.1, got 2"):
        simulate_beats(2, 0, spread=2)

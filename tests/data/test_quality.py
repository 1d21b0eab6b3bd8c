"""The automatic judgement: passes real records, fails each way of being wrong."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch

from ecgcore.data import LEADS, quality, simulate_beats
from ecgcore.data.quality import judge, psd_distance, qrs_peaks, welch
from ecgcore.errors import DataError


@pytest.fixture(scope="module")
def ludb(shared):
    stored = np.load(shared / "data" / "ludb_100hz.npz", allow_pickle=False)
    return stored["x_uV"] / 1000


def test_real_records_pass(ludb):
    found = judge(ludb[::2], 100, real=ludb[1::2])
    assert all(found["passed"].values())
    assert set(found["passed"]) == set(quality.THRESHOLDS)
    assert found["records"] == 75
    assert found["heart_rate_ok"] > 0.9
    assert found["psd_db"] < 1
    assert json.loads(json.dumps(found)) == found


def test_simulated_records_pass_but_for_the_comparison():
    drawn = simulate_beats(40, 0, spread=0.4)
    found = judge(drawn.x, 100, real=simulate_beats(40, 1, spread=0.4).x)
    assert all(found["passed"].values())
    assert found["heart_rate_ok"] == 1.0
    assert found["heart_rate"] == pytest.approx(np.median(drawn.heart_rate), abs=2)
    assert 2 < found["noise_uv"] < 7


def test_windows_of_two_and_a_half_seconds_can_be_judged():
    x = simulate_beats(40, 0, seconds=2.5, spread=0.4).x
    assert all(judge(x, 100)["passed"].values())


def test_peaks_are_those_the_cardiologists_marked(shared, ludb):
    """On lead II of LUDB within 80 ms; the detector sees all leads, at 100 Hz."""
    marked: dict[int, list[int]] = {}
    with (shared / "data" / "ludb_lead_II_waves.csv").open() as stream:
        for row in csv.DictReader(stream):
            if row["wave"] == "QRS" and int(row["peak_500hz"]) >= 0:
                marked.setdefault(int(row["ludb_id"]), []).append(int(row["peak_500hz"]) // 5)
    hit = missed = extra = 0
    for x, (_, peaks) in zip(ludb, sorted(marked.items()), strict=True):
        found = qrs_peaks(x, 100)
        # Beats at the record's ends are often left unmarked.
        found = found[(found > min(peaks) - 20) & (found < max(peaks) + 20)]
        near = np.abs(np.array(peaks)[:, None] - found) <= 8
        hit += near.any(1).sum()
        missed += (~near.any(1)).sum()
        extra += (~near.any(0)).sum()
    assert missed < 0.02 * hit
    assert extra < 0.02 * hit


@pytest.mark.parametrize("fs", [100, 250, 500])
def test_peaks_and_rate_of_simulated_beats(fs):
    drawn = simulate_beats(10, 2, fs=fs, labels="NORM")
    for x, times in zip(drawn.x.numpy(), drawn.r_peaks, strict=True):
        times = times[(times > 0.1) & (times < 9.9)]
        peaks = qrs_peaks(x, fs) / fs
        assert np.abs(times[:, None] - peaks).min(1).max() < 0.05


def test_each_failure_is_seen(ludb):
    real = ludb[1::2]
    x = ludb[::2]
    rng = np.random.default_rng(0)
    noisy = judge(x + 0.113 * rng.standard_normal(x.shape), 100, real=real)
    assert not noisy["passed"]["noise_uv"]
    assert not noisy["passed"]["psd_db"]
    assert noisy["noise_uv"] == pytest.approx(113 * np.sqrt(0.4), rel=0.1)
    faded = judge(0.2 * real, 100, real=real)
    assert faded["std_ratio"] == pytest.approx(0.2)
    assert faded["psd_db"] == pytest.approx(20 * np.log10(5), abs=0.01)
    assert not faded["passed"]["std_ratio"]
    shuffled = np.stack([r[:, rng.permutation(1000)] for r in x])
    broken = judge(shuffled, 100, real=real)
    assert not broken["passed"]["heart_rate_ok"]
    assert not broken["passed"]["beat_correlation"]
    silent = judge(np.zeros((3, 12, 300)), 100, real=real)
    assert silent["heart_rate"] is None
    assert silent["heart_rate_ok"] == 0
    assert silent["beat_correlation"] is None
    assert not any(v for k, v in silent["passed"].items() if k != "noise_uv")


@pytest.mark.parametrize("length", [1000, 250, 64, 127])
def test_welch_equals_scipy(length):
    signal = pytest.importorskip("scipy.signal")
    x = np.random.default_rng(0).standard_normal((3, length))
    f, p = welch(x, 100)
    window = min(128, length)
    want_f, want = signal.welch(
        x, 100, "hann", nperseg=window, noverlap=window - max(1, window // 2)
    )
    np.testing.assert_allclose(f, want_f)
    np.testing.assert_allclose(p, want, rtol=1e-10)


def test_spectral_distance_is_the_gain_in_decibel(ludb):
    assert psd_distance(ludb, ludb, 100) == 0
    assert psd_distance(2 * ludb, ludb, 100) == pytest.approx(20 * np.log10(2), abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": np.zeros((12, 1000))}, ValueError, r"x must have shape \(n, leads, L\)"),
        (
            {"x": np.zeros((2, 12, 50))},
            ValueError,
            r"at least a second, got \(2, 12, 50\) at 100 Hz",
        ),
        ({"x": np.zeros((0, 12, 500))}, DataError, "x holds no record"),
        ({"x": torch.full((2, 12, 500), torch.nan)}, DataError, "2 of 2 records of x hold NaN"),
        ({"fs": 0}, ValueError, "fs must be positive"),
        ({"real": np.zeros((2, 8, 500))}, ValueError, "real has 8 leads, x has 12"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        judge(**{"x": np.zeros((2, len(LEADS), 500)), "fs": 100} | arguments)

"""Charts of spectra and losses: the right curves on the right scale."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from ecgcore.errors import DataError
from ecgcore.report import charts, loss_svg, spectra_svg

SVG = "{http://www.w3.org/2000/svg}"


def words(svg):
    return ["".join(t.itertext()) for t in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def curve(svg, colour):
    """Points in mm of the longest line of a colour."""
    found = []
    for path in ElementTree.fromstring(svg).iter(f"{SVG}path"):
        match = re.fullmatch(r"M([-.\d ]+)l([-.\d ]+)", path.get("d"))
        if path.get("stroke") == colour and match:
            steps = np.reshape(match[2].split(), (-1, 2))
            found.append(np.cumsum(np.array([match[1].split(), *steps], float), axis=0))
    return max(found, key=len)


def scale(svg, labels):
    """Heights in mm of the labelled grid lines."""
    texts = {
        "".join(t.itertext()): float(t.get("y")) - 1.1
        for t in ElementTree.fromstring(svg).iter(f"{SVG}text")
    }
    return [texts[label] for label in labels]


def test_spectrum_peaks_at_the_tone():
    t = np.arange(1000) / 100
    tone = np.sin(2 * np.pi * 12.5 * t) * np.ones((2, 3, 1))
    svg = spectra_svg({"tone": torch.from_numpy(tone), "half": tone / 2}, 100)
    assert {"Power spectral density", "Frequency (Hz)", "tone", "half"} <= set(words(svg))
    whole, half = curve(svg, charts.COLOURS[0]), curve(svg, charts.COLOURS[1])
    low, high = scale(svg, ["-100", "-50"])
    per_decibel = (low - high) / 50
    assert per_decibel > 0
    assert whole[whole[:, 1].argmin(), 0] == half[half[:, 1].argmin(), 0]
    drop = half[:, 1].min() - whole[:, 1].min()
    assert drop == pytest.approx(20 * np.log10(2) * per_decibel, abs=0.03)


def test_loss_is_logarithmic_and_smoothed():
    steps = np.arange(1, 101)
    svg = loss_svg(steps, 10.0 ** -(steps / 50.0), smooth=1)
    points = curve(svg, charts.COLOURS[1])
    slope = np.diff(points[:, 1]) / np.diff(points[:, 0])
    assert np.ptp(slope) < 0.05  # an exponential is a straight line
    assert {"0.1", "0.01", "Step", "loss"} <= set(words(svg))
    noisy = np.random.default_rng(0).lognormal(size=4000)
    svg = loss_svg(range(4000), noisy)
    assert "mean of 80 values" in words(svg)
    bold = curve(svg, charts.COLOURS[1])
    faint = curve(svg, "#f2c4ab")
    assert np.ptp(bold[:, 1]) < 0.5 * np.ptp(faint[:, 1])
    assert len(svg) < 60_000


def test_losses_that_are_not_finite_are_counted():
    svg = loss_svg([1, 2, 3, 4], [0.5, np.nan, 0.4, -1.0])
    assert "loss (2 not finite left out)" in words(svg)
    with pytest.raises(DataError, match="none of the 2 losses is positive and finite"):
        loss_svg([1, 2], [np.nan, np.inf])


def test_a_single_value_and_a_flat_curve_can_be_drawn():
    assert "<svg" in loss_svg([1], [0.5])
    assert "<svg" in loss_svg([1, 2, 3], [0.5, 0.5, 0.5])


def test_many_groups_get_a_legend_of_several_rows():
    signals = np.random.default_rng(0).standard_normal((1, 2, 300))
    svg = spectra_svg({f"a rather long name {i}": signals for i in range(5)}, 100)
    texts = [t for t in ElementTree.fromstring(svg).iter(f"{SVG}text") if "long" in t.text]
    assert len({t.get("y") for t in texts}) == 3
    assert all(0 < float(t.get("x")) < 100 for t in texts)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: spectra_svg({}, 100), ValueError, "no group of signals"),
        (
            lambda: spectra_svg({"a": np.zeros((2, 10))}, 100),
            ValueError,
            r"a must have shape \(n, leads, L\)",
        ),
        (lambda: spectra_svg({"a": np.full((1, 2, 200), np.nan)}, 100), DataError, "a holds NaN"),
        (lambda: loss_svg([1, 2], [1.0]), ValueError, r"must match, got \(2,\) and \(1,\)"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_ticks_are_round_and_inside():
    for low, high in ((0, 1), (-63.2, -20.1), (1, 3200), (0.001, 0.0042), (-5, 5)):
        ticks = charts._ticks(low, high, 5)
        assert 2 <= len(ticks) <= 7
        assert all(low - 1e-9 <= v <= high + 1e-9 for v, _ in ticks)
        labels = [label for _, label in ticks]
        assert len(set(labels)) == len(labels)
        assert max(map(len, labels)) <= 7

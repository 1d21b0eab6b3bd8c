"""Distances of sets of records: against recorded values, plain loops, and their laws."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ecgcore import metrics
from ecgcore.errors import DataError
from support import need_shared

SETS = ("ludb_first48_vs_next48", "ludb_first22_vs_sssd22")


@pytest.fixture(scope="module")
def records() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    real = np.load(need_shared("data", "ludb_100hz.npz"))["x_uV"] / 1000.0
    drawn = np.load(need_shared("data", "reference_synthetic_100hz.npz"))["sssd_turing_mV"]
    return {SETS[0]: (real[:48], real[48:96]), SETS[1]: (real[:22], drawn.astype(np.float64))}


@pytest.mark.parametrize("name", SETS)
def test_values_of_an_independent_implementation(
    name: str, records: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    expected = json.loads(need_shared("data", "metric_reference.json").read_text())[name]
    x, y = records[name]
    spectra = [metrics.psd(z) for z in (x, y)]
    symmetric = [metrics.psd(z, window="symmetric") for z in (x, y)]
    spread = [z.std(-1) for z in (x, y)]
    apart = np.triu_indices(12, 1)
    found = {
        "MMD2_unbiased_clamped": metrics.mmd(x, y),
        "MMD2_raw": metrics.mmd(x, y, clamp=False),
        "PSD_MMD2": metrics.mmd(*spectra),
        "PSD_PRD": metrics.prd(*spectra),
        "PSD_PRD_symmetric_hamming": metrics.prd(*symmetric),
        "PRD": metrics.prd(x, y),
        "RMSE": metrics.rmse(x, y),
        "FID_feature_lead_std": metrics.frechet_distance(*spread),
        "KID_as_MMD2_feature_lead_std": metrics.mmd(*spread),
        "NMI_mean_offdiag_X": metrics.nmi(x[:8]).mean(0).numpy()[apart].mean(),
        "NMI_I_vs_II_first8": float(metrics.nmi(x[:8])[:, 0, 1].mean()),
    }
    for key, value in found.items():
        assert value == pytest.approx(expected[key], rel=1e-11), key


def plain_path(a: np.ndarray, b: np.ndarray, step: Callable[[float, float], float]) -> float:
    """Over the cells one by one."""
    table = np.full((a.shape[1] + 1, b.shape[1] + 1), np.inf)
    table[0, 0] = 0
    for i in range(a.shape[1]):
        for j in range(b.shape[1]):
            cost = float(((a[:, i] - b[:, j]) ** 2).sum())
            least = min(table[i, j], table[i, j + 1], table[i + 1, j])
            table[i + 1, j + 1] = step(cost, float(least))
    return float(np.sqrt(table[-1, -1]))


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 7), (7, 1), (30, 30), (25, 41), (41, 25)])
def test_paths_are_those_found_cell_by_cell(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    x, y = rng.standard_normal((2, 3, n)), rng.standard_normal((4, 3, m))
    warped, frechet = metrics.dtw(x, y), metrics.discrete_frechet(x, y)
    assert warped.shape == frechet.shape == (2, 4)
    for i in range(2):
        for j in range(4):
            assert warped[i, j] == pytest.approx(plain_path(x[i], y[j], lambda c, s: c + s))
            assert frechet[i, j] == pytest.approx(plain_path(x[i], y[j], max))


def test_a_delayed_signal_is_near_when_time_may_be_warped() -> None:
    t = np.linspace(0, 1, 200)
    bump = [np.exp(-(((t - at) / 0.03) ** 2))[None, None] for at in (0.4, 0.6)]
    assert metrics.dtw(*bump).item() < 0.1 * metrics.rmse(*bump) * np.sqrt(200)
    assert metrics.discrete_frechet(*bump).item() < 0.1


def test_mmd_is_zero_for_equal_and_one_half_each_for_distant_clusters() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 5))
    assert metrics.mmd(x, rng.standard_normal((300, 5))) < 2e-3
    raw = [
        metrics.mmd(*rng.standard_normal((2, 40, 5)), sigma=2.0, clamp=False) for _ in range(200)
    ]
    assert abs(np.mean(raw)) < 4 * np.std(raw) / np.sqrt(200)  # unbiased
    assert min(raw) < 0
    # Clusters of equal points, infinitely far apart: both inner means are 1, the cross mean is 0.
    near = np.zeros((5, 3))
    assert metrics.mmd(near, near + 1e6, sigma=1.0) == pytest.approx(2.0)


def test_frechet_distance_of_gaussians() -> None:
    """Against the closed form with commuting covariances, and its laws."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((5000, 3))
    z = (z - z.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(z.T))).T  # covariance 1 exactly
    x, y = z * [1, 2, 3] + [1, 0, 0], z * [2, 2, 1]
    assert metrics.frechet_distance(x, y) == pytest.approx(1 + 1 + 0 + 4, rel=1e-9)
    assert metrics.frechet_distance(x, y) == pytest.approx(metrics.frechet_distance(y, x))
    assert metrics.frechet_distance(x, x) == pytest.approx(0, abs=1e-12)
    one = metrics.frechet_distance(x[:, :1], y[:, :1])  # a single feature has a variance
    assert one == pytest.approx(2, rel=1e-9)


def test_spectra_sum_to_one_or_are_silent() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 1000))
    x[1, 2] = 0
    spectra = metrics.psd(x)
    assert spectra.shape == (2, 3, 257)
    assert torch.allclose(spectra.sum(-1)[x.std(-1) > 0], torch.ones(5, dtype=torch.float64))
    assert not spectra[1, 2].any()
    tone = np.sin(2 * np.pi * 12.5 * np.arange(1000) / 100)[None, None]
    assert metrics.psd(tone)[0, 0].argmax() == 64  # of 512 at 100 Hz
    assert metrics.psd(tone[..., :300]).shape == (1, 1, 151)


def test_mutual_information_is_that_of_histograms() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 4, 500))
    x[0, 1] = 3 * x[0, 0] - 1  # tells all
    x[0, 2] = 7.0  # tells nothing
    found = metrics.nmi(x, bins=8)[0]
    assert found[0, 1] == pytest.approx(1)
    assert found[0, 2] == 0
    counts = np.histogram2d(x[0, 0], x[0, 3], bins=8)[0] / 500

    def entropy(p: np.ndarray) -> float:
        return float(-(p[p > 0] * np.log(p[p > 0])).sum())

    one, other = entropy(counts.sum(0)), entropy(counts.sum(1))
    assert found[0, 3] == pytest.approx((one + other) / entropy(counts) - 1)
    assert torch.equal(found, found.T)


@pytest.mark.parametrize("kind", ["numpy", "float32 tensor", "integers"])
def test_arrays_of_any_kind_are_computed_in_double_precision(kind: str) -> None:
    x, y = np.random.default_rng(0).integers(-9, 9, (2, 6, 2, 40))
    expected = metrics.rmse(x.astype(float), y.astype(float))
    given: Any = {
        "numpy": (x.astype(np.float32), y.astype(np.float32)),
        "float32 tensor": (torch.tensor(x).float(), torch.tensor(y).float().requires_grad_()),
        "integers": (x, y),
    }[kind]
    assert metrics.rmse(*given) == expected


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: metrics.mmd(np.ones((1, 4)), np.ones((3, 4))),
            ValueError,
            "x must have at least 2",
        ),
        (lambda: metrics.mmd(np.ones((2, 4)), np.ones((3, 5))), ValueError, "the same axis 1, got"),
        (
            lambda: metrics.mmd(np.ones((2, 4)), np.ones((3, 4))),
            ValueError,
            "distance.* is 0: give",
        ),
        (lambda: metrics.mmd(np.eye(3), np.eye(3), sigma=-1), ValueError, "positive; got -1"),
        (lambda: metrics.rmse(np.full((2, 4), np.nan), np.ones((2, 4))), DataError, "x holds NaN"),
        (lambda: metrics.rmse(np.ones((0, 4)), np.ones((2, 4))), ValueError, r"got \(0, 4\)"),
        (lambda: metrics.rmse([1.0], np.ones((2, 4))), TypeError, "x must be an array.*got list"),
        (lambda: metrics.rmse(np.eye(2, dtype=complex), np.eye(2)), TypeError, "got complex128"),
        (lambda: metrics.psd(np.ones((3, 4))), ValueError, r"shape \(n, leads, L\), got \(3, 4\)"),
        (lambda: metrics.psd(np.ones((1, 1, 9)), window="hann"), ValueError, "got 'hann'"),
        (lambda: metrics.nmi(np.ones((1, 2, 9)), bins=1), ValueError, "at least 2, got 1"),
        (lambda: metrics.dtw(np.ones((1, 2, 9)), np.ones((1, 3, 9))), ValueError, "same leads"),
    ],
)
def test_bad_input_is_named(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()

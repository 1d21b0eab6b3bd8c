"""Samplers as tables: on Gaussian data with its known score, and as solvers of the ODE."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ecgcore import diffusion
from ecgcore.diffusion import Moments, NoiseSchedule, RecordNoise, solvers
from gaussian import MEAN, STDS, denoiser, outcome

SCHEDULE = NoiseSchedule.linear()  # the references': 200 steps, alpha_bar ends at 0.132


def table(name: str) -> solvers.Table:
    """``"ddim 20, eta 1"``."""
    sampler, *numbers = name.replace(", eta", "").split()
    solver = {"ddpm": solvers.ddpm, "ddim": solvers.ddim, "dpm++": solvers.dpmpp}[sampler]
    return solver(SCHEDULE, *map(int, numbers))


def ratios(of: solvers.Table, *, matched: bool) -> np.ndarray:
    return np.array([outcome(of, std, matched=matched)[1] for std in STDS])


# --- the outcome on Gaussian data -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "start", "expected", "bias"),
    [
        ("ddpm", "normal", (0.282, 0.632, 0.830, 0.934, 0.976, 0.990), -0.07),
        ("ddpm", "matched", (0.282, 0.632, 0.830, 0.934, 0.975, 0.990), 0.0),
        ("ddim 50", "matched", (0.285, 0.672, 0.896, 0.967, 0.975, 0.976), 0.0),
        ("ddim 20", "normal", (0.306, 0.720, 0.949, 0.995, 0.991, 0.939), -0.17),
        ("ddim 20", "matched", (0.285, 0.671, 0.884, 0.927, 0.930, 0.939), 0.0),
        ("ddim 10", "matched", (0.284, 0.657, 0.821, 0.852, 0.859, 0.874), 0.0),
        ("ddim 20, eta 1", "normal", (0.282, 0.631, 0.823, 0.873, 0.871, 0.873), -0.07),
        ("dpm++ 20", "normal", (0.308, 0.753, 1.026, 1.071, 1.070, 1.002), -0.18),
        ("dpm++ 20", "matched", (0.286, 0.701, 0.956, 0.999, 1.004, 1.002), 0.0),
        ("dpm++ 10", "matched", (0.286, 0.690, 0.935, 1.015, 1.018, 1.005), 0.0),
        ("dpm++ 6", "matched", (0.283, 0.654, 0.894, 0.988, 1.014, 0.982), 0.0),
    ],
)
def test_the_table_of_the_documentation(
    name: str, start: str, expected: tuple[float, ...], bias: float
) -> None:
    """docs/samplers.md, to the rounding of its figures."""
    found, matched = table(name), start == "matched"
    np.testing.assert_allclose(ratios(found, matched=matched), expected, rtol=0, atol=0.00051)
    assert abs(outcome(found, 1.0, matched=matched)[0] - bias) <= 0.0051


@pytest.mark.parametrize("name", ["dpm++ 20", "dpm++ 10"])
def test_few_steps_from_a_matched_start_beat_200_ancestral_ones_in_every_mode(name: str) -> None:
    ancestral = abs(ratios(table("ddpm"), matched=False) - 1)
    assert (abs(ratios(table(name), matched=True) - 1) <= ancestral).all()


@pytest.mark.parametrize("name", ["dpm++ 20", "dpm++ 10", "dpm++ 6", "ddim 20", "ddim 10"])
def test_even_spacing_in_lambda_beats_even_spacing_in_time(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = abs(ratios(table(name), matched=True) - 1)
    for last in (0, 1):  # down to step 0, and "trailing": the last of equal parts is left out
        with monkeypatch.context() as m:
            m.setattr(
                solvers,
                "times",
                lambda schedule, steps, first, last=last: np.linspace(
                    schedule.T - 1, last * (schedule.T / steps - 1), steps
                ).round().astype(int).tolist(),
            )  # fmt: skip
            other = abs(ratios(table(name), matched=True) - 1)
        assert ours.max() < other.max()
        assert (ours**2).sum() < 0.9 * (other**2).sum()


@pytest.mark.parametrize(
    ("sampler", "options", "of"),
    [
        ("ddpm", {}, lambda: solvers.ddpm(SCHEDULE)),
        ("ddim", {"steps": 20}, lambda: solvers.ddim(SCHEDULE, 20)),
        ("ddim", {"steps": 20, "eta": 0.7}, lambda: solvers.ddim(SCHEDULE, 20, 0.7)),
        ("dpm++", {"steps": 20}, lambda: solvers.dpmpp(SCHEDULE, 20)),
    ],
)
@pytest.mark.parametrize("matched", [False, True])
def test_signals_have_the_computed_moments(
    sampler: str, options: dict[str, float], of: object, matched: bool
) -> None:
    """The loop against the arithmetic, by its own random numbers."""
    std = torch.tensor(STDS).unsqueeze(1)
    n = 20_000
    x = diffusion.sample(
        denoiser(SCHEDULE, std),
        (1, len(STDS), n),
        None,
        SCHEDULE,
        sampler=sampler,
        noise=RecordNoise(1, [0]),
        start=Moments(torch.tensor(MEAN), std) if matched else None,
        **options,
    )
    assert callable(of)
    for row, s in zip(x[0].double(), STDS, strict=True):
        bias, ratio = outcome(of(), s, matched=matched)
        assert abs(float(row.std()) / (ratio * s) - 1) <= 4.5 / math.sqrt(2 * n)
        assert abs(float(row.mean()) - MEAN - bias) <= 4.5 * ratio * s / math.sqrt(n) + 1e-6


# --- order of convergence -------------------------------------------------------------------------


def even_in_lambda(T: int, low: float, high: float) -> NoiseSchedule:
    """A schedule of which every n-th step, n a divisor of T - 1, is a grid again."""
    level = torch.linspace(high, low, T, dtype=torch.float64)
    alpha_bar = torch.sigmoid(2 * level)
    alpha = alpha_bar / torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
    return NoiseSchedule(T, 1 - alpha, alpha, alpha_bar, torch.zeros(T))


@pytest.mark.parametrize(("solver", "order"), [(solvers.dpmpp, 2), (solvers.ddim, 1)])
@pytest.mark.parametrize("std", [0.05, 0.3, 3.0])
def test_half_the_step_divides_the_error_by_2_to_the_order(
    solver: type, order: int, std: float
) -> None:
    """Against the exact flow: the distance from the mean stays in proportion to the deviation
    ``sqrt(alpha^2 std^2 + sigma^2)`` of the noised data.
    """
    schedule = even_in_lambda(1 + 960, -1.0, 3.0)

    def error(steps: int) -> float:
        made = solver(schedule, steps)
        assert np.ptp(np.diff(made.times)) == 0
        deviation = ((made.alpha * std) ** 2 + made.sigma**2).sqrt()
        # The last evaluation gives the data expected at the flow's end.
        exact = std**2 * made.alpha[-1] / (deviation[-1] * deviation[0])
        x, before = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for k in range(steps):
            eps = made.sigma[k] * x / deviation[k] ** 2
            data = (x - made.sigma[k] * eps) / made.alpha[k]
            x = made.x[k] * x + made.eps[k] * eps + made.data[k] * before
            before = data
        return abs(float(x / exact) - 1)

    errors = [error(1 + n) for n in (40, 80, 160, 320)]
    away = abs(np.array(errors[:-1]) / np.array(errors[1:]) / 2**order - 1)
    assert away[-1] <= 0.02
    assert (np.diff(away) < 0).all()  # the ratios tend to it


# --- formulas -------------------------------------------------------------------------------------


def test_ddim_with_all_steps_and_eta_1_is_ddpm() -> None:
    ancestral, implicit = solvers.ddpm(SCHEDULE), solvers.ddim(SCHEDULE, eta=1.0)
    assert implicit.times == ancestral.times
    assert implicit.stochastic
    assert implicit.draws == ancestral.draws == 200
    # alpha_bar and alpha are float32 numbers of their own, so beta_t = 1 - alpha_bar_t /
    # alpha_bar_(t-1) is known to a rounding of them: what the variance is in proportion to.
    beta = SCHEDULE.beta.double().flip(0)
    limit = 8 * 2.0**-24 / beta
    for name in ("x", "eps", "noise"):
        a, b = getattr(ancestral, name), getattr(implicit, name)
        assert ((a - b).abs() <= limit * a.abs()).all(), name


def test_first_and_last_evaluation_of_the_multistep_solver_are_of_first_order() -> None:
    second, first = solvers.dpmpp(SCHEDULE, 10), solvers.ddim(SCHEDULE, 10)
    assert second.times == first.times
    for k in (0, -1):
        for name in ("x", "eps", "data"):
            torch.testing.assert_close(getattr(second, name)[k], getattr(first, name)[k])
    assert (second.data[1:-1] != 0).all()
    assert second.multistep
    assert not second.stochastic
    assert second.draws == 1
    torch.testing.assert_close(second.x[-1], 1 / second.alpha[-1])
    torch.testing.assert_close(second.eps[-1], -second.sigma[-1] / second.alpha[-1])


def test_multistep_update_as_published() -> None:
    made = solvers.dpmpp(SCHEDULE, 6)
    level = torch.log(made.alpha / made.sigma)
    x, eps, before = 0.7, -0.3, 0.2
    for k in range(1, 5):
        h, h_before = level[k + 1] - level[k], level[k] - level[k - 1]
        r = h_before / h
        data = (x - made.sigma[k] * eps) / made.alpha[k]
        D = (1 + 1 / (2 * r)) * data - 1 / (2 * r) * before
        published = (
            made.sigma[k + 1] / made.sigma[k] * x - made.alpha[k + 1] * (torch.exp(-h) - 1) * D
        )
        ours = made.x[k] * x + made.eps[k] * eps + made.data[k] * before
        torch.testing.assert_close(ours, published, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("solver", [solvers.ddim, solvers.dpmpp])
def test_one_step_is_the_data_prediction(solver: type) -> None:
    made = solver(SCHEDULE, 1)
    assert made.times == (199,)
    torch.testing.assert_close(made.x, 1 / made.alpha)
    torch.testing.assert_close(made.eps, -made.sigma / made.alpha)
    assert made.draws == 1


# --- times ----------------------------------------------------------------------------------------


def test_times_are_even_in_lambda_and_then_every_step() -> None:
    expected = [199, 173, 147, 122, 98, 76, 59, 44, 33, 24, 18, 13, 9, 7, 5, 4, 3, 2, 1, 0]
    assert solvers.times(SCHEDULE, 20) == tuple(expected)
    assert solvers.times(SCHEDULE, 6) == (199, 102, 37, 11, 3, 0)


@pytest.mark.parametrize(
    "schedule",
    [
        SCHEDULE,
        NoiseSchedule.linear(7, 1e-2, 0.3),
        NoiseSchedule.linear(300, 1e-4, 0.2),  # lambda falls fastest at its end
        NoiseSchedule.linear(1, 0.5, 0.5),
    ],
)
def test_times_fall_from_the_first_to_0_whatever_their_number(schedule: NoiseSchedule) -> None:
    for first in {schedule.T - 1, schedule.T // 2, 0}:
        assert solvers.times(schedule, None, first) == tuple(range(first, -1, -1))
        for steps in range(1, first + 2):
            found = solvers.times(schedule, steps, first)
            assert len(found) == steps
            assert found[0] == first
            assert found[-1] == (0 if steps > 1 else first)
            assert (np.diff(found) < 0).all()


@pytest.mark.parametrize("steps", [0, 201, -1, 2.0, True])
def test_steps_that_there_are_not(steps: object) -> None:
    with pytest.raises(
        ValueError, match=f"steps must be a whole number from 1 to 200, got {steps}"
    ):
        solvers.dpmpp(SCHEDULE, steps)  # type: ignore[arg-type]


@pytest.mark.parametrize("eta", [-0.1, 1.5, math.nan])
def test_eta_out_of_range(eta: float) -> None:
    with pytest.raises(ValueError, match=r"eta must be in \[0, 1\], got"):
        solvers.ddim(SCHEDULE, 10, eta)

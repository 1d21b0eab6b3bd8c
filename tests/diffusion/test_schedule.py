"""The noise schedule: recorded numbers, definitions, errors."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from ecgcore.diffusion import NoiseSchedule
from ecgcore.nn import diffusion_step_embedding
from ecgcore.testing.compare import relative_error
from support import recorded


def test_recorded_schedules():
    r = recorded("diffusion_schedule")
    for T, beta_0, beta_T in r.config["cases"]:
        schedule = NoiseSchedule.linear(T, beta_0, beta_T)
        names = {"Beta": "beta", "Alpha": "alpha", "Alpha_bar": "alpha_bar", "Sigma": "sigma"}
        for key, name in names.items():
            value = getattr(schedule, name)
            path = f"T{T}_b{beta_0}_{beta_T}/{key}"
            assert value.dtype == torch.float32
            # The recorded square roots are not the nearest numbers, but at most the next ones.
            limit = 2**-23 if key == "Sigma" else 1e-7
            assert relative_error(value, r[f"out/{path}"]) <= limit, path
            assert relative_error(value, r[f"out64/{path}"]) <= 1e-5, path


@pytest.mark.parametrize("T", [1, 50, 200])
def test_sigma_is_the_nearest_square_root_on_any_processor(T):
    schedule = NoiseSchedule.linear(T)
    posterior = schedule.beta.clone()
    posterior[1:] *= (1 - schedule.alpha_bar[:-1]) / (1 - schedule.alpha_bar[1:])
    exact = torch.tensor([math.sqrt(p) for p in posterior.tolist()], dtype=torch.float64)
    assert torch.equal(schedule.sigma, exact.float())


@pytest.mark.parametrize("dim", [16, 128])
def test_recorded_step_embeddings(dim):
    r = recorded("diffusion_schedule")
    steps = r[f"in/embed{dim}_t"]
    assert relative_error(diffusion_step_embedding(steps, dim), r[f"out/embed{dim}"]) <= 1e-7
    wide = diffusion_step_embedding(steps, dim, torch.float64)
    assert relative_error(wide, r[f"out64/embed{dim}"]) <= 1e-12


def test_definitions():
    s = NoiseSchedule.linear(50, 1e-4, 0.05)
    beta = torch.linspace(1e-4, 0.05, 50, dtype=torch.float64)
    alpha_bar = torch.cumprod(1 - beta, 0)
    before = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
    posterior = beta * (1 - before) / (1 - alpha_bar)
    posterior[0] = beta[0]
    for value, expected in [
        (s.beta, beta),
        (s.alpha, 1 - beta),
        (s.alpha_bar, alpha_bar),
        (s.sigma, posterior.sqrt()),
    ]:
        assert relative_error(value, expected) <= 1e-5
    with pytest.raises(dataclasses.FrozenInstanceError):
        s.T = 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 1e-4, 0.02), ValueError, "T must be at least 1, got 0"),
        ((2.5, 1e-4, 0.02), TypeError, "T must be an integer, got 2.5"),
        ((True, 1e-4, 0.02), TypeError, "T must be an integer, got True"),
        ((10, 0.0, 0.02), ValueError, r"beta_0 must lie in \(0, 1\), got 0.0"),
        ((10, 1e-4, 1.0), ValueError, r"beta_T must lie in \(0, 1\), got 1.0"),
        ((10, float("nan"), 0.02), ValueError, r"beta_0 must lie in \(0, 1\), got nan"),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        NoiseSchedule.linear(*arguments)


@pytest.mark.parametrize(
    ("steps", "dim", "message"),
    [
        (torch.zeros(2), 7, "dim must be even and >= 4, got 7"),
        (torch.zeros(2), 2, "dim must be even and >= 4, got 2"),
        (torch.zeros(2, 2), 8, r"steps must be \(B,\) or \(B, 1\), got \(2, 2\)"),
        (torch.zeros(()), 8, r"steps must be \(B,\) or \(B, 1\), got \(\)"),
    ],
)
def test_errors_of_the_step_embedding(steps, dim, message):
    with pytest.raises(ValueError, match=message):
        diffusion_step_embedding(steps, dim)

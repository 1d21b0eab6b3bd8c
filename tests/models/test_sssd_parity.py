"""SSSD-ECG against recordings of both references: forward, gradients, training step, sampling."""

from __future__ import annotations

import pytest
import torch

from denoiser_checks import (
    check_gradients,
    check_step_embedding,
    check_training_step,
    check_trajectory,
)
from ecgcore import diffusion
from ecgcore.models import SSSDECG
from ecgcore.testing.compare import relative_error
from support import Recorded, recorded, recorded_names

NAMES = recorded_names("sssd__*", "sssd_orig__*")
# Without the recordings a name is still a pattern, and its test says so.
BEFORE_DOUBLING = [n for n in NAMES if "*" in n or recorded(n).under("state_pre")]
WITH_EMBEDDING = [n for n in NAMES if "*" in n or "out/step_embedding" in recorded(n)]
WITH_TRAJECTORY = [n for n in NAMES if "*" in n or "in/traj_noise" in recorded(n)]


def build(r: Recorded, state: str = "state", **switches) -> SSSDECG:
    model = SSSDECG(**r.config["kwargs"], odd_length="reference", **switches)
    model.load_state_dict(r.under(state))
    return model.eval()


@pytest.mark.parametrize(
    ("name", "state"),
    [*((n, "state") for n in NAMES), *((n, "state_pre") for n in BEFORE_DOUBLING)],
)
def test_noise_prediction(name, state):
    r = recorded(name)
    with torch.no_grad():
        eps = build(r, state)(r["in/x"], r["in/y"], r["in/t"])
    assert relative_error(eps, r["out/eps"]) <= 5e-6
    if "out64/eps" in r:
        assert relative_error(eps, r["out64/eps_f32nodes"]) <= 5e-6
        assert relative_error(eps, r["out64/eps"]) <= 5e-5


@pytest.mark.parametrize("name", recorded_names("sssd__*"))
def test_noise_prediction_with_exact_nodes(name):
    r = recorded(name)
    with torch.no_grad():
        eps = build(r, exact_nodes=True)(r["in/x"], r["in/y"], r["in/t"])
        wide = build(r, exact_nodes=True).double()
        eps64 = wide(r["in/x"].double(), r["in/y"].double(), r["in/t"])
    assert relative_error(eps, r["out64/eps"]) <= 5e-6
    assert relative_error(eps64, r["out64/eps"]) <= 1e-10


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name):
    r = recorded(name)
    check_gradients(build(r), r, 1e-4)


@pytest.mark.parametrize("name", recorded_names("sssd__*"))
def test_training_loss_and_one_step_of_adam(name):
    r = recorded(name)
    check_training_step(build(r), r)


@pytest.mark.parametrize("name", WITH_EMBEDDING)
def test_step_embedding(name):
    check_step_embedding(recorded(name))


@pytest.mark.parametrize("name", WITH_TRAJECTORY)
def test_whole_trajectory(name):
    r = recorded(name)
    check_trajectory(build(r), r)


def test_the_seeded_samples_of_the_original_repository_come_out_again():
    r = recorded("sssd_orig__res16_L128_cls71")
    model = build(r)
    schedule = diffusion.NoiseSchedule.linear(5, 1e-4, 0.02)
    torch.manual_seed(99)
    x = diffusion.sample(model, tuple(r["in/x"].shape), r["in/y"], schedule)
    assert relative_error(x, r["out/sample_T5_seed99"]) <= 1e-5

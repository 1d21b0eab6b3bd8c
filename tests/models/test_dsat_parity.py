"""DSAT-ECG against recordings of the reference: forward, gradients, training step, sampling."""

from __future__ import annotations

import pytest
import torch

from denoiser_checks import (
    check_gradients,
    check_step_embedding,
    check_training_step,
    check_trajectory,
    old_key,
)
from ecgcore.models import DSATECG
from ecgcore.testing.compare import relative_error
from support import Recorded, recorded, recorded_names

NAMES = recorded_names("dsat__*")
# Without the recordings a name is still a pattern, and its test says so.
STATES = [(n, "state") for n in NAMES]
STATES += [(n, "state_pre") for n in NAMES if "*" not in n and recorded(n).under("state_pre")]


def build(r: Recorded, state: str = "state", **switches) -> DSATECG:
    model = DSATECG(**r.config["kwargs"], spade_cfg=r.config["spade_cfg"], **switches)
    model.load_state_dict(r.under(state))
    return model.eval()


@pytest.mark.parametrize(("name", "state"), STATES)
def test_noise_prediction(name, state):
    r = recorded(name)
    model = build(r, state, exact_nodes=False)
    with torch.no_grad():
        eps = model(r["in/x"], r["in/y"], r["in/t"])
    assert relative_error(eps, r["out/eps"]) <= 5e-6
    assert relative_error(eps, r["out64/eps_f32nodes"]) <= 5e-6
    assert relative_error(eps, r["out64/eps"]) <= 5e-5


@pytest.mark.parametrize(("name", "state"), STATES)
def test_noise_prediction_with_exact_nodes(name, state):
    r = recorded(name)
    with torch.no_grad():
        eps = build(r, state)(r["in/x"], r["in/y"], r["in/t"])
    assert relative_error(eps, r["out64/eps"]) <= 5e-6


@pytest.mark.parametrize("name", NAMES)
def test_noise_prediction_in_double_precision(name):
    r = recorded(name)
    with torch.no_grad():
        eps = build(r).double()(r["in/x"].double(), r["in/y"].double(), r["in/t"])
    assert relative_error(eps, r["out64/eps"]) <= 1e-10


@pytest.mark.parametrize("exact_nodes", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_gradients(name, exact_nodes):
    r = recorded(name)
    # At L = 1000 a unit of a ReLU lies within rounding of zero.
    limit = 5e-3 if r.config["L"] == 1000 else 1e-4
    check_gradients(build(r, exact_nodes=exact_nodes), r, limit)


@pytest.mark.parametrize("name", NAMES)
def test_training_loss_and_one_step_of_adam(name):
    r = recorded(name)
    check_training_step(build(r), r)


@pytest.mark.parametrize("name", NAMES)
def test_step_embedding(name):
    check_step_embedding(recorded(name))


@pytest.mark.parametrize("name", recorded_names("dsat__*traj*"))
def test_whole_trajectory(name):
    r = recorded(name)
    check_trajectory(build(r), r)


def test_a_seed_gives_the_references_initial_weights():
    r = recorded("init_seeded")
    expected = r.under("out/DSAT")
    torch.manual_seed(r.config["seed"])
    model = DSATECG(**r.config["kwargs"]["DSAT"])
    next_rand = torch.rand(4)
    state = {old_key(key): value for key, value in model.state_dict().items()}
    assert torch.equal(next_rand, expected.pop("__next_rand"))
    assert list(state) == list(expected)
    for key, value in expected.items():
        # Eigenvectors have arbitrary phases.
        if key.split(".")[-1] in ("B", "P"):
            torch.testing.assert_close(
                state[key].norm(dim=-1), value.norm(dim=-1), rtol=1e-4, atol=1e-6
            )
        elif key.split(".")[-1] in ("inv_w_real", "w_imag"):
            torch.testing.assert_close(state[key], value, rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(state[key], value), key

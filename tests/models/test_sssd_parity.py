"""SSSD-ECG against recordings of both references: forward, gradients, training step, sampling."""

from __future__ import annotations

import pytest
import torch

from ecgcore import diffusion
from ecgcore.models import SSSDECG
from ecgcore.nn import diffusion_step_embedding
from ecgcore.testing.compare import relative_error
from support import Recorded, recorded, recorded_names, relative_l2

NAMES = recorded_names("sssd__*", "sssd_orig__*")
# Without the recordings a name is still a pattern, and its test says so.
BEFORE_DOUBLING = [n for n in NAMES if "*" in n or recorded(n).under("state_pre")]
WITH_EMBEDDING = [n for n in NAMES if "*" in n or "out/step_embedding" in recorded(n)]
WITH_TRAJECTORY = [n for n in NAMES if "*" in n or "in/traj_noise" in recorded(n)]
OLD_NAMES = {"original0": "weight_g", "original1": "weight_v"}


def build(r: Recorded, state: str = "state", **switches) -> SSSDECG:
    model = SSSDECG(**r.config["kwargs"], odd_length="reference", **switches)
    model.load_state_dict(r.under(state))
    return model.eval()


def old_key(name: str) -> str:
    """The key of a parameter in the style of the original repository."""
    for new, old in OLD_NAMES.items():
        name = name.replace(f"parametrizations.weight.{new}", old)
    return name


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
    model = build(r)
    x, y = r["in/x"].requires_grad_(), r["in/y"].requires_grad_()
    (model(x, y, r["in/t"]) * r["in/cot"]).sum().backward()
    found = {"in/x": x.grad, "in/y": y.grad}
    old_style = "state/init_conv.0.conv.weight_g" in r
    for name, parameter in model.named_parameters():
        found[f"state/{old_key(name) if old_style else name}"] = parameter.grad
    for key in ("grad", "grad64"):
        for path, expected in r.under(key).items():
            assert relative_l2(found[path], expected) <= 1e-4, path
    parameters = {path for path in r.under("grad") if path.startswith("state/")}
    if parameters:  # some recordings hold gradients of inputs only
        # The last block's residual output is thrown away, so that nothing pulls at its map.
        pulled = {k for k, g in found.items() if k.startswith("state/") and g is not None}
        assert pulled == parameters


@pytest.mark.parametrize("name", recorded_names("sssd__*"))
def test_training_loss_and_one_step_of_adam(name):
    r = recorded(name)
    c = r.config
    model = build(r)
    schedule = diffusion.NoiseSchedule.linear(c["T"], c["beta_0"], c["beta_T"])
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)
    loss = diffusion.loss(
        model,
        r["in/train_signal"],
        r["in/y"],
        schedule,
        steps=r["in/train_steps"],
        noise=r["in/train_z"],
    )
    assert relative_error(loss, r["out/train_loss"]) <= 1e-6
    assert relative_error(loss, r["out64/train_loss"]) <= 1e-6
    loss.backward()
    optimizer.step()
    parameters = dict(model.named_parameters())
    for key, expected in r.under("out/after_adam").items():
        parameter = parameters[key]
        difference = (parameter.detach() - expected).abs()
        # The first step is lr times the sign of the gradient, whatever its size: one at rounding
        # level may point either way.
        g = parameter.grad.abs()
        clear = g > 1e-4 * g.max()
        assert difference[clear].max() <= 1e-3 * 2e-4 + 1e-7 * expected.abs().max(), key
        assert difference.max() <= 2.01 * 2e-4, key


@pytest.mark.parametrize("name", WITH_EMBEDDING)
def test_step_embedding(name):
    r = recorded(name)
    width = r.config["kwargs"]["diffusion_step_embed_dim_in"]
    embedded = diffusion_step_embedding(r["in/t"], width)
    assert relative_error(embedded, r["out/step_embedding"]) <= 1e-7
    assert relative_error(embedded, r["out64/step_embedding"]) <= 1e-5


@pytest.mark.parametrize("name", WITH_TRAJECTORY)
def test_whole_trajectory(name):
    r = recorded(name)
    model = build(r)
    T = r.config["traj_T"]
    schedule = diffusion.NoiseSchedule.linear(T, r.config["beta_0"], r.config["beta_T"])
    seen = []
    shape = tuple(r["out/traj_x0"].shape)
    given = diffusion.sample(
        model,
        shape,
        r["in/y"],
        schedule,
        noise=r["in/traj_noise"],
        callback=lambda i, t, x, eps: seen.append((i, t, x.clone(), eps.clone())),
    )
    assert relative_error(given, r["out/traj_x0"]) <= 1e-5
    assert relative_error(given, r["out64/traj_x0"]) <= 1e-5
    assert [(i, t) for i, t, _, _ in seen] == [(i, T - 1 - i) for i in range(T)]
    for i, _, x, eps in seen:
        assert relative_error(x, r["out/traj_x"][i]) <= 1e-5
        assert relative_error(eps, r["out/traj_eps"][i]) <= 1e-5
    torch.manual_seed(1234)  # the seed the noise was recorded with
    drawn = diffusion.sample(model, shape, r["in/y"], schedule)
    assert torch.equal(drawn, given)


def test_the_seeded_samples_of_the_original_repository_come_out_again():
    r = recorded("sssd_orig__res16_L128_cls71")
    model = build(r)
    schedule = diffusion.NoiseSchedule.linear(5, 1e-4, 0.02)
    torch.manual_seed(99)
    x = diffusion.sample(model, tuple(r["in/x"].shape), r["in/y"], schedule)
    assert relative_error(x, r["out/sample_T5_seed99"]) <= 1e-5

"""What the parity tests of the diffusion models share: gradients, a training step, sampling."""

from __future__ import annotations

import torch

from ecgcore import diffusion
from ecgcore.models.wavenet import Denoiser
from ecgcore.nn import diffusion_step_embedding
from ecgcore.testing.compare import relative_error
from support import Recorded, relative_l2

OLD_NAMES = {"original0": "weight_g", "original1": "weight_v"}


def old_key(name: str) -> str:
    """The key of a parameter with weight norm in its old form."""
    for new, old in OLD_NAMES.items():
        name = name.replace(f"parametrizations.weight.{new}", old)
    return name


def new_key(name: str) -> str:
    for new, old in OLD_NAMES.items():
        name = name.replace(old, f"parametrizations.weight.{new}")
    return name


def check_gradients(model: Denoiser, r: Recorded, limit: float) -> None:
    x, y = r["in/x"].requires_grad_(), r["in/y"].requires_grad_()
    (model(x, y, r["in/t"]) * r["in/cot"]).sum().backward()
    found = {"in/x": x.grad, "in/y": y.grad}
    old_style = "state/init_conv.0.conv.weight_g" in r
    for name, parameter in model.named_parameters():
        found[f"state/{old_key(name) if old_style else name}"] = parameter.grad
    for key in ("grad", "grad64"):
        for path, expected in r.under(key).items():
            assert relative_l2(found[path], expected) <= limit, path
    parameters = {path for path in r.under("grad") if path.startswith("state/")}
    if parameters:  # some recordings hold gradients of inputs only
        # The last block's residual output is thrown away, so that nothing pulls at its map.
        pulled = {k for k, g in found.items() if k.startswith("state/") and g is not None}
        assert pulled == parameters


def check_training_step(model: Denoiser, r: Recorded) -> None:
    """The loss, and the weights after one step of Adam."""
    c = r.config
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
    assert r.under("out/after_adam")
    for key, expected in r.under("out/after_adam").items():
        parameter = parameters[new_key(key)]
        difference = (parameter.detach() - expected).abs()
        # The first step is lr times the sign of the gradient, whatever its size: one at rounding
        # level may point either way.
        g = parameter.grad.abs()
        clear = g > 1e-4 * g.max()
        assert difference[clear].max() <= 1e-3 * 2e-4 + 1e-7 * expected.abs().max(), key
        assert difference.max() <= 2.01 * 2e-4, key


def check_step_embedding(r: Recorded) -> None:
    width = r.config["kwargs"]["diffusion_step_embed_dim_in"]
    embedded = diffusion_step_embedding(r["in/t"], width)
    assert relative_error(embedded, r["out/step_embedding"]) <= 1e-7
    assert relative_error(embedded, r["out64/step_embedding"]) <= 1e-5


def check_trajectory(model: Denoiser, r: Recorded) -> None:
    """Every reverse step, from the recorded noise and from the recorded seed."""
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

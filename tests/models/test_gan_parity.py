"""The GANs' networks against recordings of the reference, and the first one's training loop."""

from __future__ import annotations

import pytest
import torch

from ecgcore import gan, models
from ecgcore.testing.compare import relative_error
from support import Recorded, recorded, recorded_names, relative_l2

GENERATORS = recorded_names("wavegan_G__*", "p2p_G__*")
CRITICS = recorded_names("wavegan_D__*", "p2p_D__*")


def check_gradients(model: torch.nn.Module, r: Recorded, key: str, limit: float) -> None:
    wanted = r.under(key)
    parameters = dict(model.named_parameters())
    assert set(wanted) == set(parameters)  # the recording has none for unused layers
    for name, expected in wanted.items():
        error = relative_l2(parameters[name].grad, expected)
        assert error <= limit, (name, error)


def load(r: Recorded, dtype: torch.dtype) -> torch.nn.Module:
    model = getattr(models, r.config["model"])(**r.config["kwargs"])
    model.load_state_dict(r.under("state"))  # the reference's, with its unused layers
    return model.to(dtype)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", GENERATORS)
def test_generators(name, mode):
    r = recorded(name)
    model = load(r, torch.float32).train(mode == "train")
    x, y = (r[f"in/{key}"].requires_grad_() for key in "xy")
    out = model(x, y)
    assert relative_error(out, r[f"out64/{mode}"]) <= 5e-5
    (out * r["in/cot"]).sum().backward()
    # Biases before a batch normalisation have no influence in training: their gradient is rounding.
    check = r.under(f"grad/{mode}/state")
    for key, parameter in model.named_parameters():
        if mode == "train" and key.startswith(("deconv", "conv")) and key.endswith("bias"):
            weight = model.get_parameter(key.removesuffix("bias") + "weight")
            assert parameter.grad.norm() <= 1e-4 * weight.grad.norm()
            continue
        assert relative_l2(parameter.grad, check[key]) <= 1e-4, key
    assert set(check) == {key for key, _ in model.named_parameters()}
    assert relative_l2(x.grad, r[f"grad64/{mode}/in/x"]) <= 1e-4
    assert relative_l2(y.grad, r[f"grad64/{mode}/in/y"]) <= 1e-4
    if mode == "train":
        after = r.under("state_after_train")
        for key, value in model.state_dict().items():
            if ".bn." in key:
                torch.testing.assert_close(value, after[key], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", GENERATORS)
def test_generators_in_double(name, mode):
    r = recorded(name)
    model = load(r, torch.float64).train(mode == "train")
    x, y = (r[f"in/{key}"].double().requires_grad_() for key in "xy")
    out = model(x, y)
    assert relative_error(out, r[f"out64/{mode}"]) <= 1e-10
    (out * r["in/cot"]).sum().backward()
    assert relative_l2(x.grad, r[f"grad64/{mode}/in/x"]) <= 1e-9
    assert relative_l2(y.grad, r[f"grad64/{mode}/in/y"]) <= 1e-9


@pytest.mark.parametrize("name", CRITICS)
def test_critics(name):
    r = recorded(name)
    model = load(r, torch.float32)
    x = r["in/x"].requires_grad_()
    score = model(x, r["in/k"])
    assert relative_error(score, r["out64/out"]) <= 5e-6
    (score * r["in/cot"]).sum().backward()
    check_gradients(model, r, "grad/state", 1e-5)
    assert relative_l2(x.grad, r["grad64/in/x"]) <= 1e-5


@pytest.mark.parametrize("name", CRITICS)
def test_gradient_penalty(name):
    r = recorded(name)
    model = load(r, torch.float32)
    penalty = gan.gradient_penalty(
        model, r["in/x"], r["in/gp_fake"], alpha=r["in/gp_alpha"], shifts=r["in/gp_k"], weight=10.0
    )
    assert penalty.shape == ()
    assert relative_error(penalty, r["out64/gp"]) <= 5e-6
    penalty.backward()
    wanted = r.under("grad/gp/state")
    for key, parameter in model.named_parameters():
        if key.endswith("bias"):  # none of them moves a gradient
            assert parameter.grad is None
            assert key not in wanted or not wanted[key].any()  # the recording has zeros
        else:
            assert relative_l2(parameter.grad, wanted[key]) <= 1e-5, key


def loop_models(r: Recorded) -> tuple[models.Generator, models.Critic, torch.optim.Optimizer]:
    generator = models.CondWaveGANGenerator(**r.config["G_kwargs"])
    critic = models.CondWaveGANDiscriminator(**r.config["D_kwargs"])
    generator.load_state_dict(r.under("state_G"))
    critic.load_state_dict(r.under("state_D"))
    parameters = [*generator.parameters(), *critic.parameters()]
    lr, betas = r.config["lr"], tuple(r.config["betas"])
    return generator, critic, torch.optim.Adam(parameters, lr=lr, betas=betas)


@pytest.mark.parametrize("drawn", [False, True], ids=["recorded draws", "seeded draws"])
def test_training_loop(drawn):
    """Five critic steps, then one of the generator; draws given, or made from the seed."""
    r = recorded("train_loop__wavegan_5it")
    generator, critic, optimizer = loop_models(r)
    shifts = r["in/shifts"]
    torch.manual_seed(r.config["seed_before_loop"])
    seen = []
    for i in range(r.config["n_iters"]):
        label = r["in/labels"][i]
        if drawn:
            draws = gan.draw_for_critic(critic, tuple(r["in/noise"][i].shape))
        else:
            draws = gan.CriticDraws(
                r["in/noise"][i], r["in/gp_alpha"][i], shifts[15 * i : 15 * i + 15].view(3, 5, -1)
            )
        seen.append(gan.critic_step(generator, critic, optimizer, r["in/real"][i], label, draws))
        assert gan.generator_turn(i) == (i == 4)
    names = {"real": "D_real", "fake": "D_fake", "penalty": "gp", "loss": "D_cost"}
    for name, key in (names | {"wasserstein": "D_wass"}).items():
        values = torch.tensor([getattr(scores, name) for scores in seen], dtype=torch.float64)
        assert relative_error(values, r[f"out64/{key}"]) <= 2e-5, name
    if drawn:
        g_draws = gan.draw_for_generator(critic, tuple(r["in/g_noise"].shape))
    else:
        g_draws = gan.GeneratorDraws(r["in/g_noise"], shifts[75:80])
    loss, _ = gan.generator_step(generator, critic, optimizer, label, g_draws)
    assert loss == pytest.approx(float(r["out64/G_cost"]), rel=2e-5)

    lr = r.config["lr"]
    for network, key in ((critic, "out/state_D"), (generator, "out/state_G")):
        wanted = r.under(key)
        for name, value in network.state_dict().items():
            # Such biases have no influence: Adam moves them by lr in a direction of rounding.
            no_influence = network is generator and name.endswith("conv1d.bias")
            limit = 2.1 * lr if no_influence else 2e-6
            torch.testing.assert_close(value, wanted[name], rtol=1e-5, atol=limit, msg=name)

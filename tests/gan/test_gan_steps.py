"""One step of a GAN: who moves, who counts, what is drawn, and what happens to numbers that blow
up."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from ecgcore import gan
from ecgcore.train import TrainingDiverged
from tiny_gan import NAMES, tiny_gan


def pair(name: str = NAMES[0]) -> tuple[Any, Any, torch.optim.Optimizer]:
    model = tiny_gan(name).train()
    assert model.discriminator is not None
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.5, 0.9))
    return model, model.discriminator, optimizer


def draws(model: Any, critic: Any) -> tuple[gan.CriticDraws, torch.Tensor, torch.Tensor]:
    shape = (3, *model.latent_shape(500))
    return gan.draw_for_critic(critic, shape), torch.randn(3, 8, 500), torch.eye(5)[:3]


def state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return copy.deepcopy(module.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_the_critic_moves_and_the_generator_does_not(name: str) -> None:
    model, critic, optimizer = pair(name)
    for _ in range(2):  # the second time the generator's last gradients must be gone
        d, real, label = draws(model, critic)
        before = state(model)
        gan.critic_step(model, critic, optimizer, real, label, d)
        for key, value in model.state_dict().items():
            # Running statistics move too: the generator draws in training mode.
            # The last bias adds to all scores alike: it has no gradient.
            moves = key.startswith("discriminator.") or ".bn." in key
            moves = moves and key != "discriminator.fc1.bias"
            assert torch.equal(value, before[key]) != moves, key
        before = state(model)
        g = gan.draw_for_generator(critic, d.noise.shape)
        gan.generator_step(model, critic, optimizer, label, g)
        for key, value in model.state_dict().items():
            if key.startswith("discriminator."):
                assert torch.equal(value, before[key]), key
        # A bias ahead of a normalisation has no gradient but rounding.
        own = [
            key
            for key, _ in model.named_parameters()
            if not key.startswith("discriminator.")
            and not ("conv_" in key and key.endswith(".bias"))
        ]
        still = [k for k in own if torch.equal(model.state_dict()[k], before[k])]
        assert not still


def test_a_step_is_adam_on_the_references_three_terms() -> None:
    model, critic, optimizer = pair()
    d, real, label = draws(model, critic)
    twin = copy.deepcopy(model)
    scores = gan.critic_step(model, critic, optimizer, real, label, d, weight=3.0)

    twin_critic = twin.discriminator
    plain = torch.optim.Adam(twin_critic.parameters(), lr=1e-3, betas=(0.5, 0.9))
    fake = twin(d.noise, label).detach()
    on_real, on_fake = twin_critic(real, d.shifts[0]).mean(), twin_critic(fake, d.shifts[1]).mean()
    penalty = gan.gradient_penalty(
        lambda x, s: twin_critic(x, s), real, fake, alpha=d.alpha, shifts=d.shifts[2], weight=3.0
    )
    (on_fake - on_real + penalty).backward()
    norm = torch.nn.utils.clip_grad_norm_(twin_critic.parameters(), float("inf"))
    plain.step()
    wanted = (on_real.item(), on_fake.item(), penalty.item(), norm.item())
    assert scores == pytest.approx(wanted, rel=1e-4)
    for ours, theirs in zip(critic.parameters(), twin_critic.parameters(), strict=True):
        close = (ours - theirs).abs() <= 1e-5
        assert close.float().mean() > 0.99  # where a gradient is rounding, Adam's sign is too


def test_the_gradient_is_clipped() -> None:
    model, critic, optimizer = pair()
    d, real, label = draws(model, critic)
    scores = gan.critic_step(model, critic, optimizer, real, label, d, grad_clip=0.01)
    assert scores.gradient_norm > 0.01
    size = sum(float(p.grad.square().sum()) for p in critic.parameters()) ** 0.5
    assert size == pytest.approx(0.01, rel=1e-3)


def test_draws_come_in_the_references_order() -> None:
    _, critic, _ = pair()
    torch.manual_seed(4)
    d = gan.draw_for_critic(critic, (3, 4, 6))
    torch.manual_seed(4)
    noise = torch.empty(3, 4, 6).uniform_(-1, 1)
    real, fake = critic.draw_shifts(3), critic.draw_shifts(3)
    alpha = torch.rand(3, 1, 1)
    for given, wanted in zip(d, (noise, alpha, torch.stack([real, fake])), strict=True):
        assert torch.equal(given[:2] if given is d.shifts else given, wanted)
    assert torch.equal(d.shifts[2], critic.draw_shifts(3))
    state = torch.random.get_rng_state()
    own = gan.draw_for_critic(critic, (3, 4, 6), torch.Generator().manual_seed(4))
    assert torch.equal(own.noise, noise)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_turns_of_the_generator() -> None:
    def turns(**how: Any) -> list[int]:
        return [step for step in range(20) if gan.generator_turn(step, **how)]

    assert turns() == [4, 9, 14, 19]
    assert turns(n_critic=7) == [6, 13]
    assert turns(n_critic=1) == list(range(20))
    # The reference: eight batches per epoch, counted anew in each.
    assert turns(batches_per_epoch=8) == [4, 12]
    assert turns(batches_per_epoch=4) == []


@pytest.mark.parametrize("broken", ["critic", "generator"])
def test_what_is_not_finite_moves_nothing(broken: str) -> None:
    model, critic, optimizer = pair()
    d, real, label = draws(model, critic)
    if broken == "critic":
        real[0, 0, 0] = float("nan")
        before = state(critic)
        with pytest.raises(TrainingDiverged, match="the critic's loss is nan"):
            gan.critic_step(model, critic, optimizer, real, label, d)
    else:
        with torch.no_grad():
            critic.fc1.weight[0, 0] = float("inf")
        g, before = gan.draw_for_generator(critic, d.noise.shape), state(critic)
        with pytest.raises(TrainingDiverged, match="the generator's loss is"):
            gan.generator_step(model, critic, optimizer, label, g)
    assert all(torch.equal(value, before[key]) for key, value in critic.state_dict().items())

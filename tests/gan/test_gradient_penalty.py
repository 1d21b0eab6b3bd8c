"""The gradient penalty: its value, its derivatives, what it costs, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from ecgcore import gan, models


def make(**settings) -> tuple[models.Critic, torch.Tensor, torch.Tensor, torch.Tensor]:
    critic = models.CondWaveGANDiscriminator(
        **{"model_size": 1, "num_channels": 2, "length": 250} | settings
    ).double()
    real, fake = torch.randn(2, 3, 2, 250, dtype=torch.float64)
    return critic, real, fake, torch.rand(3, 1, 1, dtype=torch.float64)


def gradients(value: torch.Tensor, critic: torch.nn.Module) -> list[torch.Tensor]:
    found = torch.autograd.grad(value, list(critic.parameters()), allow_unused=True)
    return [
        torch.zeros_like(p) if g is None else g
        for g, p in zip(found, critic.parameters(), strict=True)
    ]


def test_layer_by_layer_is_the_derivative_of_the_whole():
    critic, real, fake, alpha = make()
    shifts = critic.draw_shifts(3)
    value = gan.gradient_penalty(critic, real, fake, alpha=alpha, shifts=shifts, weight=7.0)
    # A function has no layers: autograd differentiates it as one.
    whole = gan.gradient_penalty(
        lambda x, s: critic(x, s), real, fake, alpha=alpha, shifts=shifts, weight=7.0
    )
    torch.testing.assert_close(value, whole)
    for ours, autograd in zip(gradients(value, critic), gradients(whole, critic), strict=True):
        torch.testing.assert_close(ours, autograd)


def test_the_formula():
    w = torch.tensor([[1.0, -2.0, 2.0]], requires_grad=True)

    def critic(x: torch.Tensor) -> torch.Tensor:
        return (x.flatten(1).square() * w).sum(1, keepdim=True) / 2

    real, fake = torch.ones(1, 1, 3), torch.zeros(1, 1, 3)
    value = gan.gradient_penalty(critic, real, fake, alpha=torch.full((1, 1, 1), 0.5), weight=4.0)
    assert value.item() == pytest.approx(4 * (1.5 - 1) ** 2)  # |w| / 2 - 1, at x = 1/2
    value.backward()
    assert w.grad is not None
    torch.testing.assert_close(w.grad, 4 * 2 * 0.5 * (w.detach() / 3) * 0.5)


def test_shifts_are_drawn_if_not_given():
    critic, real, fake, alpha = make()
    torch.manual_seed(3)
    drawn = gan.gradient_penalty(critic, real, fake, alpha=alpha)
    torch.manual_seed(3)
    shifts = critic.draw_shifts(3)
    given = gan.gradient_penalty(critic, real, fake, alpha=alpha, shifts=shifts)
    assert torch.equal(drawn, given)


def test_a_slope_of_zero_gives_no_nan():
    critic, real, fake, alpha = make()
    torch.nn.init.zeros_(critic.fc1.weight)
    value = gan.gradient_penalty(critic, real, fake, alpha=alpha)
    assert value.item() == 10.0
    assert all(torch.isfinite(g).all() for g in gradients(value, critic))


def test_no_convolution_runs_backward_on_zeros():
    """Forward and slope, 6 convolutions each; the penalty's derivative, 12. Autograd alone: 18."""
    critic, real, fake, alpha = make()
    calls = []
    for one in (critic, lambda x: critic(x)):
        value = gan.gradient_penalty(one, real, fake, alpha=alpha)
        with torch.profiler.profile() as profile:
            gradients(value, critic)
        events = {e.key: e.count for e in profile.key_averages()}
        calls.append((events["aten::convolution"], events.get("aten::convolution_backward", 0)))
    assert calls == [(12, 0), (12, 6)]


def test_signals_get_no_gradient():
    critic, real, fake, alpha = make()
    fake.requires_grad_()
    gan.gradient_penalty(critic, real, fake, alpha=alpha).backward()
    assert fake.grad is None


@pytest.mark.parametrize(
    ("real", "fake", "alpha", "message"),
    [
        ((3, 2, 250), (2, 2, 250), (3, 1, 1), r"real and fake must both .* \(3, 2, 250\) and \(2,"),
        ((3, 250), (3, 250), (3, 1, 1), "real and fake must both have shape"),
        ((3, 2, 250), (3, 2, 250), (3,), r"alpha must have shape \(3, 1, 1\), got \(3,\)"),
    ],
)
def test_wrong_shapes(real, fake, alpha, message):
    critic, *_ = make()
    real, fake, alpha = (torch.zeros(s, dtype=torch.float64) for s in (real, fake, alpha))
    with pytest.raises(ValueError, match=f"gan.gradient_penalty: {message}"):
        gan.gradient_penalty(critic, real, fake, alpha=alpha)

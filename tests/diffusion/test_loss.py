"""The training loss: its formula, its draws, its errors."""

from __future__ import annotations

import pytest
import torch

from ecgcore import diffusion
from ecgcore.testing.compare import relative_error

SCHEDULE = diffusion.NoiseSchedule.linear(10, 1e-2, 0.2)


def zero(x, label, steps):
    return torch.zeros_like(x)


class Seen:
    """A model that guesses the noisy signal itself, and keeps what it was given."""

    def __call__(self, x, label, steps):
        self.x, self.label, self.steps = x, label, steps
        return x


def test_formula():
    x, z = torch.randn(3, 2, 5), torch.randn(3, 2, 5)
    y, t = torch.rand(3, 4), torch.tensor([0, 9, 4])
    model = Seen()
    loss = diffusion.loss(model, x, y, SCHEDULE, steps=t, noise=z)
    a = SCHEDULE.alpha_bar[t][:, None, None]
    noisy = a.sqrt() * x + (1 - a).sqrt() * z
    assert torch.equal(model.x, noisy)
    assert model.label is y
    assert torch.equal(model.steps, t[:, None])
    assert relative_error(loss, (noisy - z).square().mean()) <= 1e-6
    for shape in ((3, 1), (3, 1, 1)):
        assert diffusion.loss(model, x, y, SCHEDULE, steps=t.view(shape), noise=z) == loss


@pytest.mark.parametrize("own", [True, False])
def test_draws_steps_first_then_noise(own):
    x = torch.randn(4, 2, 5)
    generator = torch.Generator().manual_seed(7) if own else None
    torch.manual_seed(7)
    t, z = torch.randint(10, (4, 1, 1)), torch.normal(0, 1, x.shape)
    torch.manual_seed(7)
    model = Seen()
    loss = diffusion.loss(model, x, None, SCHEDULE, generator=generator)
    assert torch.equal(model.steps, t.view(4, 1))
    assert loss == diffusion.loss(zero_like(model), x, None, SCHEDULE, steps=t, noise=z)


def zero_like(model):
    return lambda x, label, steps: x


def test_follows_the_precision_of_the_signal_and_gives_gradients():
    x = torch.randn(2, 2, 5, dtype=torch.float64)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    loss = diffusion.loss(lambda x, y, t: x * scale, x, None, SCHEDULE)
    assert loss.dtype == torch.float64
    loss.backward()
    assert scale.grad != 0
    z = torch.randn(2, 2, 5, dtype=torch.float64)
    t = torch.tensor([1, 2])
    assert diffusion.loss(zero, x, None, SCHEDULE, steps=t, noise=z) == z.square().mean()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": torch.tensor([0, 10])}, "steps must lie in 0 .. 9"),
        ({"steps": torch.tensor([-1, 0])}, "steps must lie in 0 .. 9"),
        ({"steps": torch.tensor([0, 1, 2])}, r"steps must be integers of shape \(2,\)"),
        ({"steps": torch.tensor([0.0, 1.0])}, "steps must be integers .* got torch.float32"),
        ({"noise": torch.zeros(2, 2, 4)}, r"noise must be like x \(2, 2, 5\), got \(2, 2, 4\)"),
    ],
)
def test_errors(given, message):
    with pytest.raises(ValueError, match=message):
        diffusion.loss(zero, torch.zeros(2, 2, 5), None, SCHEDULE, **given)

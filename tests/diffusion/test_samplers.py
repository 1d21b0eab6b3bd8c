"""Ancestral sampling: its formula, the order of its draws, its callback, its errors."""

from __future__ import annotations

import pytest
import torch

from ecgcore import diffusion
from ecgcore.testing.compare import relative_error

T = 6
SCHEDULE = diffusion.NoiseSchedule.linear(T, 1e-2, 0.2)
SHAPE = (3, 2, 5)
LABELS = torch.rand(3, 4)


def model(x, label, steps):
    return 0.3 * x + 0.01 * steps[:, :, None] + label.sum(1)[:, None, None] / 10


def by_hand(noise):
    x = noise[0]
    for i in range(T):
        t = T - 1 - i
        beta, alpha, bar = (
            getattr(SCHEDULE, n)[t].double() for n in ("beta", "alpha", "alpha_bar")
        )
        eps = model(x, LABELS.double(), torch.full((3, 1), float(t)))
        x = (x - beta / (1 - bar).sqrt() * eps) / alpha.sqrt()
        if t > 0:
            x = x + SCHEDULE.sigma[t].double() * noise[i + 1]
    return x


def test_formula_from_given_noise():
    noise = torch.randn(T, *SHAPE)
    x = diffusion.sample(model, SHAPE, LABELS, SCHEDULE, noise=noise)
    assert x.shape == SHAPE
    assert x.dtype == torch.float32
    assert relative_error(x, by_hand(noise.double())) <= 1e-5


def test_noise_may_be_made_one_draw_at_a_time():
    noise, asked = torch.randn(T, *SHAPE), []

    def draw(k):
        asked.append(k)
        return noise[k]

    x = diffusion.sample(model, SHAPE, LABELS, SCHEDULE, noise=draw)
    assert torch.equal(x, diffusion.sample(model, SHAPE, LABELS, SCHEDULE, noise=noise))
    assert asked == list(range(T))
    with pytest.raises(
        ValueError, match=r"noise\(0\) must have shape \(3, 2, 5\), got \(3, 2, 4\)"
    ):
        diffusion.sample(model, SHAPE, LABELS, SCHEDULE, noise=lambda k: noise[k][..., 1:])


@pytest.mark.parametrize("own", [True, False])
def test_draws_x_T_first_then_once_a_step(own):
    torch.manual_seed(5)
    noise = torch.stack([torch.normal(0, 1, SHAPE) for _ in range(T)])
    after = torch.rand(1)
    torch.manual_seed(5)
    generator = torch.Generator().manual_seed(5) if own else None
    drawn = diffusion.sample(model, SHAPE, LABELS, SCHEDULE, generator=generator)
    assert torch.equal(drawn, diffusion.sample(model, SHAPE, LABELS, SCHEDULE, noise=noise))
    if not own:
        assert torch.equal(torch.rand(1), after)  # not one number more


def test_callback_sees_every_step_before_the_update():
    noise, seen = torch.randn(T, *SHAPE), []
    x0 = diffusion.sample(
        model,
        SHAPE,
        LABELS,
        SCHEDULE,
        noise=noise,
        callback=lambda *args: seen.append(args),
    )
    assert [(i, t) for i, t, _, _ in seen] == [(i, T - 1 - i) for i in range(T)]
    assert torch.equal(seen[0][2], noise[0])
    for _, t, x, eps in seen:
        assert torch.equal(eps, model(x, LABELS, torch.full((3, 1), float(t))))
    assert not torch.equal(seen[-1][2], x0)


def test_removes_the_noise_it_knows():
    """With the true noise predicted, the mean path ends at the clean signal."""
    clean = torch.randn(SHAPE)

    def oracle(x, label, steps):
        bar = SCHEDULE.alpha_bar[steps.long()][:, :, None]
        return (x - bar.sqrt() * clean) / (1 - bar).sqrt()

    x = diffusion.sample(oracle, SHAPE, None, SCHEDULE)
    assert relative_error(x, clean) <= 1e-5


def test_model_decides_precision_and_gets_no_gradient():
    class Linear(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, x, label, steps):
            assert x.dtype == label.dtype == steps.dtype == torch.float64
            return self.scale * x

    x = diffusion.sample(Linear(), SHAPE, LABELS, SCHEDULE)
    assert x.dtype == torch.float64
    assert not x.requires_grad


def test_steps_may_say_what_ddpm_takes_anyway():
    noise = torch.randn(T, *SHAPE)
    a = diffusion.sample(model, SHAPE, LABELS, SCHEDULE, noise=noise)
    assert torch.equal(a, diffusion.sample(model, SHAPE, LABELS, SCHEDULE, noise=noise, steps=T))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": "ddim"}, "sampler must be one of ddpm in this version, got 'ddim'"),
        ({"sampler": "euler"}, "sampler must be one of ddpm in this version, got 'euler'"),
        ({"steps": 5}, "ddpm takes all T = 6 steps, got steps=5"),
        ({"steps": 0}, "ddpm takes all T = 6 steps, got steps=0"),
        ({"steps": "6"}, "ddpm takes all T = 6 steps, got steps='6'"),
        ({"eta": 0.5}, "ddpm has no eta, got 0.5"),
        ({"shape": (3, 5)}, r"shape must be \(B, channels, L\), each at least 1, got \(3, 5\)"),
        ({"shape": (3, 2, 0)}, r"shape must be \(B, channels, L\), each at least 1"),
        ({"labels": torch.zeros(2, 4)}, r"labels must have shape \(3, classes\), got \(2, 4\)"),
        ({"labels": torch.zeros(3)}, r"labels must have shape \(3, classes\), got \(3,\)"),
        ({"noise": torch.zeros(T - 1, *SHAPE)}, r"noise must have shape \(6, 3, 2, 5\), got"),
    ],
)
def test_errors(changes, message):
    arguments = {"shape": SHAPE, "labels": LABELS} | changes
    shape, labels = arguments.pop("shape"), arguments.pop("labels")
    with pytest.raises(ValueError, match=message):
        diffusion.sample(model, shape, labels, SCHEDULE, **arguments)

"""Guidance by the labels, and keeping a part of the signals."""

from __future__ import annotations

import pytest
import torch

from ecgcore import diffusion, engine, random
from ecgcore.diffusion import Moments, RecordNoise
from ecgcore.testing.compare import relative_error
from tiny import tiny_dsat, tiny_sssd
from toy_denoiser import ALL, LABELS, MASK, SCHEDULE, SHAPE, T, draw, model

# --- guidance -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sampler", "options"), ALL)
@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0, -1.0])
def test_guidance_mixes_the_prediction_with_that_without_a_label(sampler, options, weight):
    options = options | {"sampler": sampler, "noise": RecordNoise(2, range(3))}
    sizes = []

    def watched(x, label, steps):
        sizes.append(len(x))
        return model(x, label, steps)

    guided = diffusion.sample(watched, SHAPE, LABELS, SCHEDULE, guidance=weight, **options)
    assert set(sizes) == {6}  # both predictions in one batch

    def mixed(x, label, steps):
        free = model(x, torch.zeros_like(label), steps)
        return free + weight * (model(x, label, steps) - free)

    expected = diffusion.sample(mixed, SHAPE, LABELS, SCHEDULE, **options)
    assert relative_error(guided, expected) <= 1e-5


def test_guidance_of_1_asks_once():
    noise = torch.randn(T, *SHAPE)
    assert torch.equal(draw(noise=noise, guidance=1.0), draw(noise=noise))
    nearly = draw(noise=noise, guidance=1.0 + 1e-6)
    assert relative_error(nearly, draw(noise=noise)) <= 1e-5


# --- what is kept ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("sampler", "options"), ALL)
def test_what_is_kept_is_noised_to_its_level_and_comes_back_exactly(sampler, options):
    known = torch.randn(SHAPE)
    known[~MASK] = torch.nan  # what is not kept is not looked at
    options = options | {"sampler": sampler, "known": known, "mask": MASK}
    seen, records = [], range(3)
    x = draw(noise=RecordNoise(4, records), callback=lambda *a: seen.append(a), **options)
    assert torch.equal(x[MASK], known[MASK])
    assert torch.isfinite(x).all()
    for k, t, shown, _ in seen:
        z = random.normal(SHAPE[1:], seed=4, records=records, draw=2**31 + k)
        bar = SCHEDULE.alpha_bar[t].double()
        level = bar.sqrt() * known.double() + (1 - bar).sqrt() * z.double()
        assert relative_error(shown[MASK], level[MASK]) <= 1e-6
    by_number = draw(
        noise=lambda k: random.normal(SHAPE[1:], seed=4, records=records, draw=k), **options
    )
    assert torch.equal(by_number, x)


def test_draws_for_what_is_kept_stand_behind_the_others_in_a_tensor():
    known = torch.randn(SHAPE)
    noise = torch.randn(T + T, *SHAPE)
    x = draw(noise=noise, known=known, mask=MASK)
    y = draw(noise=lambda k: noise[k if k < 2**31 else T + k - 2**31], known=known, mask=MASK)
    assert torch.equal(x, y)
    with pytest.raises(
        ValueError, match=r"noise must have shape \(12, 3, 2, 5\), got \(6, 3, 2, 5\)"
    ):
        draw(noise=noise[:T], known=known, mask=MASK)


def test_the_rest_follows_what_is_kept():
    """Two channels whose data are equal: one kept, the other comes out like it."""
    schedule = diffusion.NoiseSchedule.linear(200)
    steps_alpha_bar = schedule.alpha_bar.double()

    def twins(x, label, steps):
        # x_0 = (u, u), u ~ N(0, 1): the best guess of u from both noisy channels.
        bar = steps_alpha_bar[steps.long()].unsqueeze(-1).to(x.dtype)
        alpha, sigma = bar.sqrt(), (1 - bar).sqrt()
        u = alpha * x.sum(1, keepdim=True) / (2 * alpha**2 + sigma**2)
        return (x - alpha * u) / sigma

    g = torch.Generator().manual_seed(0)
    known = torch.randn(1, 2, 2000, generator=g)
    mask = torch.tensor([[[True], [False]]]).expand(1, 2, 2000)
    for sampler, steps, correlated in (("ddpm", None, 0.999), ("dpm++", 50, 0.99)):
        x = diffusion.sample(
            twins,
            (1, 2, 2000),
            None,
            schedule,
            sampler=sampler,
            steps=steps,
            generator=g,
            known=known,
            mask=mask,
        )
        assert torch.equal(x[0, 0], known[0, 0])
        assert float(torch.corrcoef(x[0])[0, 1]) >= correlated


# --- a compiled model -----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [tiny_sssd, tiny_dsat])
@pytest.mark.parametrize(("sampler", "options"), ALL)
def test_everything_at_once_on_a_compiled_model(make, sampler, options):
    """As on the plain module: few steps, a matched start, guidance and a part that is kept."""
    compiled = make(T=6)
    assert engine.obstacle(compiled) is None
    shape, labels = (2, 8, 40), torch.eye(5)[[1, 3]]
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[:, :3, 10:] = True
    x, expected = (
        diffusion.sample(
            model,
            shape,
            labels,
            SCHEDULE,
            sampler=sampler,
            noise=RecordNoise(1, [4, 5]),
            start=Moments(torch.tensor(0.1), torch.full((8, 1), 0.5)),
            guidance=1.5,
            known=torch.linspace(-1, 1, 40).expand(shape),
            mask=mask,
            **options,
        )
        for model in (compiled, lambda x, label, steps: compiled(x, label, steps))
    )
    assert relative_error(x, expected) <= 2e-5

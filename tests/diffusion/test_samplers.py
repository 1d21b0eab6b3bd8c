"""Sampling: its formulas, the order of its draws, its callback, its errors."""

from __future__ import annotations

import pytest
import torch

from ecgcore import diffusion, random
from ecgcore.diffusion import Moments, RecordNoise
from ecgcore.testing.compare import relative_error
from toy_denoiser import ALL, FEW, LABELS, MASK, SCHEDULE, SHAPE, T, draw, model


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


# --- draws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sampler", "options"), ALL)
def test_draws_of_each_sampler_by_number(sampler, options):
    """``x_T``, then one for each step but the last that adds noise, from any source."""
    draws = {"ddpm": T, "ddim": 4 if "eta" in options else 1, "dpm++": 1}[sampler]
    options = options | {"sampler": sampler}
    noise, asked = torch.randn(draws, *SHAPE), []

    def one(k):
        asked.append(k)
        return noise[k]

    x = draw(noise=noise, **options)
    assert torch.equal(draw(noise=one, **options), x)
    assert asked == list(range(draws))
    torch.manual_seed(7)
    noise = torch.stack([torch.randn(SHAPE) for _ in range(draws)])
    after = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(draw(**options), draw(noise=noise, **options))
    assert torch.equal(torch.rand(1), after)


@pytest.mark.parametrize(("sampler", "options"), ALL)
def test_noise_by_record_is_the_same_draws_made_inside(sampler, options):
    options = options | {"sampler": sampler}
    records = [5, 0, 2**40]
    x = draw(noise=RecordNoise(11, records), **options)
    assert torch.equal(draw(noise=RecordNoise(11, torch.tensor(records)), **options), x)
    expected = draw(
        noise=lambda k: random.normal(SHAPE[1:], seed=11, records=records, draw=k), **options
    )
    assert torch.equal(x, expected)
    for i, record in enumerate(records):  # whatever else is in the batch
        alone = diffusion.sample(
            model,
            (1, *SHAPE[1:]),
            LABELS[i : i + 1],
            SCHEDULE,
            noise=RecordNoise(11, [record]),
            **options,
        )
        assert relative_error(alone[0], x[i]) <= 1e-6


def test_ancestral_draws_keep_their_numbers_from_a_later_start():
    asked = []

    def one(k):
        asked.append(k)
        return torch.full(SHAPE, float(k))

    x = torch.randn(SHAPE)
    drawn = draw(noise=one, start=(2, x))
    assert asked == list(range(T))
    noise = torch.arange(float(T)).view(T, 1, 1, 1).expand(T, *SHAPE)
    assert torch.equal(draw(noise=noise, start=(2, x)), drawn)
    assert torch.equal(draw(noise=noise, start=(0, x)), draw(start=(0, x)))  # adds none


# --- few steps ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sampler", "options"), FEW)
def test_few_steps_by_hand(sampler, options):
    eta = options.get("eta", 0.0)
    noise = torch.randn(4 if eta else 1, *SHAPE)
    x = draw(sampler=sampler, noise=noise, **options)

    bar = SCHEDULE.alpha_bar.double()
    times = diffusion.solvers.times(SCHEDULE, 4)
    y, before = noise[0].double(), None
    for k, t in enumerate(times):
        a, s = bar[t].sqrt(), (1 - bar[t]).sqrt()
        eps = model(y, LABELS.double(), torch.full((3, 1), float(t)))
        data = (y - s * eps) / a
        if k == 3:
            y = data
        elif sampler == "ddim":
            following = bar[times[k + 1]]
            d = eta * ((1 - following) / (1 - bar[t]) * (1 - bar[t] / following)).sqrt()
            y = following.sqrt() * data + (1 - following - d**2).sqrt() * eps
            if eta:
                y = y + d * noise[k + 1].double()
        else:
            a1, s1 = bar[times[k + 1]].sqrt(), (1 - bar[times[k + 1]]).sqrt()
            h = torch.log(a1 / s1) - torch.log(a / s)
            slope = 0 if before is None else h / before[0] / 2 * (data - before[1])
            y = s1 / s * y - a1 * torch.expm1(-h) * (data + slope)
            before = (h, data)
    assert relative_error(x, y) <= 1e-6


def test_a_later_start_has_its_steps_spread_below_it():
    seen = []
    x = torch.randn(SHAPE)
    draw(
        sampler="dpm++", steps=3, start=(4, x), callback=lambda i, t, x, eps: seen.append((i, t, x))
    )
    assert [(i, t) for i, t, _ in seen] == list(enumerate(diffusion.solvers.times(SCHEDULE, 3, 4)))
    assert torch.equal(seen[0][2], x)


def test_a_matched_start_moves_and_scales_x_T():
    noise = torch.randn(1, *SHAPE)
    mean, std = torch.tensor([[1.0], [-2]]), torch.tensor([[0.5], [3.0]], dtype=torch.float64)
    seen = []
    draw(
        sampler="dpm++",
        steps=2,
        noise=noise,
        start=Moments(mean, std),
        callback=lambda i, t, x, eps: seen.append(x),
    )
    bar = SCHEDULE.alpha_bar[-1].double()
    expected = bar.sqrt() * mean + (bar * std**2 + 1 - bar).sqrt() * noise[0].double()
    assert relative_error(seen[0], expected) <= 1e-6


def test_a_model_may_give_its_input_back():
    x = diffusion.sample(
        lambda x, label, steps: x, SHAPE, None, SCHEDULE, noise=torch.ones(T, *SHAPE)
    )
    y = diffusion.sample(
        lambda x, label, steps: x.clone(), SHAPE, None, SCHEDULE, noise=torch.ones(T, *SHAPE)
    )
    assert torch.equal(x, y)


def test_a_callback_may_change_and_keep_what_it_sees():
    noise = torch.randn(T, *SHAPE)

    def spoil(i, t, x, eps):
        x.zero_()
        eps.zero_()

    assert torch.equal(draw(noise=noise, callback=spoil), draw(noise=noise))


def test_an_interrupted_call_leaves_nothing_behind():
    noise = torch.randn(T, *SHAPE)
    expected = draw(noise=noise)

    def stop(i, t, x, eps):
        if i == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(noise=noise, callback=stop)
    assert torch.is_grad_enabled()
    assert torch.equal(draw(noise=noise), expected)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": "euler"}, r"sampler must be one of ddpm, ddim, dpm\+\+, got 'euler'"),
        ({"steps": 5}, "ddpm takes all T = 6 steps, got steps=5"),
        ({"steps": 0}, "ddpm takes all T = 6 steps, got steps=0"),
        ({"steps": "6"}, "ddpm takes all T = 6 steps, got steps='6'"),
        ({"eta": 0.5}, "ddpm has no eta, got 0.5"),
        ({"sampler": "dpm++", "eta": 0.5}, r"dpm\+\+ has no eta, got 0.5"),
        ({"sampler": "ddim", "eta": 1.5}, r"eta must be in \[0, 1\], got 1.5"),
        ({"sampler": "ddim", "steps": 7}, "steps must be a whole number from 1 to 6, got 7"),
        (
            {"sampler": "dpm++", "steps": 5, "start": (3, torch.zeros(SHAPE))},
            "steps must be a whole number from 1 to 4, got 5",
        ),
        ({"shape": (3, 5)}, r"shape must be \(B, channels, L\), each at least 1, got \(3, 5\)"),
        ({"shape": (3, 2, 0)}, r"shape must be \(B, channels, L\), each at least 1"),
        ({"labels": torch.zeros(2, 4)}, r"labels must have shape \(3, classes\), got \(2, 4\)"),
        ({"labels": torch.zeros(3)}, r"labels must have shape \(3, classes\), got \(3,\)"),
        ({"noise": torch.zeros(T - 1, *SHAPE)}, r"noise must have shape \(6, 3, 2, 5\), got"),
        (
            {"sampler": "dpm++", "noise": torch.zeros(T, *SHAPE)},
            r"noise must have shape \(1, 3, 2, 5\), got \(6, 3, 2, 5\)",
        ),
        (
            {"noise": torch.zeros(T, *SHAPE), "generator": torch.Generator()},
            "give a generator or noise, not both",
        ),
        ({"noise": RecordNoise(0, range(2))}, "noise must name 3 records, got 2"),
        ({"guidance": float("nan")}, "guidance must be a finite number.*got nan"),
        ({"guidance": 2.0, "labels": None}, "guidance must be .* 1 without labels, got 2.0"),
        ({"known": torch.zeros(SHAPE)}, "known needs mask beside it"),
        ({"mask": MASK}, "mask needs known beside it"),
        (
            {"known": torch.zeros(SHAPE), "mask": MASK[:, :1]},
            r"mask must have shape \(3, 2, 5\), got \(3, 1, 5\)",
        ),
        (
            {"known": torch.zeros(3, 2, 4), "mask": MASK},
            r"known must have shape \(3, 2, 5\), got \(3, 2, 4\)",
        ),
        (
            {"known": torch.zeros(SHAPE), "mask": MASK.float()},
            "mask must be bool.*got torch.float32",
        ),
        (
            {"known": torch.full(SHAPE, torch.nan), "mask": MASK},
            "known must be finite where mask is true",
        ),
        (
            {"start": Moments(torch.zeros(2, 1), torch.ones(4, 1))},
            r"start.std must broadcast to \(3, 2, 5\), got \(4, 1\)",
        ),
        (
            {"start": Moments(torch.zeros(1, 3, 2, 5), torch.ones(()))},
            r"start.mean must broadcast to \(3, 2, 5\), got \(1, 3, 2, 5\)",
        ),
        ({"start": Moments(torch.zeros(()), torch.tensor(-1.0))}, "start.std must not be negative"),
        ({"start": Moments(torch.tensor(torch.nan), torch.ones(()))}, "start.mean must be finite"),
        ({"precision": "fp8"}, "precision must be one of fp32, bf16, got 'fp8'"),
    ],
)
def test_errors(changes, message):
    arguments = {"shape": SHAPE, "labels": LABELS} | changes
    shape, labels = arguments.pop("shape"), arguments.pop("labels")
    with pytest.raises(ValueError, match=message):
        diffusion.sample(model, shape, labels, SCHEDULE, **arguments)

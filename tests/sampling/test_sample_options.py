"""Options of ``model.sample``: what reaches the sampler, and what does not fit the model."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from ecgcore import checkpoint, data, diffusion, sampling
from ecgcore.diffusion import ClassMoments, Moments, RecordNoise
from tiny import loaded_sssd, tiny_dsat
from tiny_gan import NAMES, tiny_gan

T = 5
STEPS = {"T": T, "beta_0": 0.01, "beta_T": 0.6}  # large enough for the model to matter
MOMENTS = {
    "mean": [[0.1 * c + 0.01 * i for i in range(8)] for c in range(6)],
    "std": [[0.5 + 0.1 * c] * 8 for c in range(6)],
}


def model(**card: Any) -> Any:
    made = loaded_sssd(T)
    made.card = dataclasses.replace(made.card, diffusion=STEPS, **card)
    return made


def drawn(
    model: Any, n: int = 3, length: int = 40, labels: torch.Tensor | None = None, **options: Any
) -> torch.Tensor:
    """The same by the plain function, in twelve leads."""
    x = diffusion.sample(
        model,
        (n, 8, length),
        torch.eye(5)[:n] if labels is None else labels,
        diffusion.NoiseSchedule.linear(**STEPS),
        noise=RecordNoise(9, range(n)),
        **options,
    )
    return data.to_twelve_leads(x / model.card.scale, basis="I-aVF", order="ptbxl")


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": "dpm++", "steps": 3},
        {"sampler": "ddim", "steps": 4, "eta": 0.5},
        {"guidance": 2.5},
        {"precision": "bf16", "sampler": "ddim", "steps": 2},
    ],
)
def test_the_samplers_options_are_the_plain_function_s(options: dict[str, Any]) -> None:
    guided = model(label_dropout=0.1, scale=2.0)
    batch = guided.sample(n=3, seed=9, **options)
    assert torch.equal(batch.x, drawn(guided, **options))
    assert not torch.equal(batch.x, guided.sample(n=3, seed=9).x)


def test_one_is_no_guidance() -> None:
    plain = model()
    assert torch.equal(plain.sample(n=2, seed=1, guidance=1).x, plain.sample(n=2, seed=1).x)


def test_a_matched_start_takes_the_moments_of_the_class() -> None:
    trained = model(moments=MOMENTS)
    mean, std = (torch.tensor(MOMENTS[name])[:3, :, None] for name in ("mean", "std"))
    wanted = drawn(trained, start=Moments(mean, std))
    assert torch.equal(trained.sample(n=3, seed=9, start="matched").x, wanted)
    assert not torch.equal(trained.sample(n=3, seed=9).x, wanted)
    none = torch.zeros(2, 5)  # of no class: the moments of all
    last = Moments(*(torch.tensor(MOMENTS[name])[5:, :, None] for name in ("mean", "std")))
    got = trained.sample(none, seed=9, start="matched").x
    assert torch.equal(got, drawn(trained, 2, labels=none, start=last))


def test_moments_may_be_given() -> None:
    plain = model()
    by_class = ClassMoments(*(torch.tensor(MOMENTS[name]) for name in ("mean", "std")))
    wanted = drawn(plain, start=by_class.of(torch.eye(5)[:3]))
    assert torch.equal(plain.sample(n=3, seed=9, start=by_class).x, wanted)
    one_each = Moments(by_class.mean[:3, :, None], torch.tensor(0.7))
    whole = plain.sample(n=3, seed=9, start=one_each).x
    assert torch.equal(whole, drawn(plain, start=one_each))
    parts = plain.sample(n=3, seed=9, start=one_each, batch_size=2).x
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)


def test_another_rate_has_more_samples_of_the_same_time() -> None:
    plain = model()
    batch = plain.sample(n=3, seed=9, rate=0.2)
    assert (batch.x.shape, batch.fs) == ((3, 12, 200), 500.0)
    assert torch.equal(batch.x, drawn(plain, length=200, rate=0.2))
    assert not torch.equal(batch.x, plain.sample(n=3, seed=9, length=200).x)
    assert plain.sample(n=1, rate=2).fs == 50
    assert plain.sample(n=1, rate=0.2, length=50).x.shape == (1, 12, 50)


def test_a_dsat_ecg_takes_them_too() -> None:
    dsat: Any = tiny_dsat(T)
    dsat.card = checkpoint._implied_card(dsat)
    batch = sampling.sample(
        dsat, n=2, length=48, rate=0.5, sampler="dpm++", steps=2, precision="bf16"
    )
    assert (batch.x.shape, batch.fs) == ((2, 12, 48), 200.0)
    assert batch.x.isfinite().all()


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"precision": "fp16"}, ValueError, "precision must be one of fp32, bf16, got 'fp16'"),
        ({"start": "warm"}, ValueError, "start must be 'normal' or 'matched', or .*got 'warm'"),
        ({"start": 3}, TypeError, "start must be .*diffusion.Moments, got int"),
        ({"start": "matched"}, ValueError, "the card of this SSSDECG has none; give start="),
        (
            {"start": Moments(torch.zeros(8), torch.ones(1))},
            ValueError,
            r"start.mean must broadcast to \(n, channels, L\) = \(1, 8, 40\), got \(8,\)",
        ),
        (
            {"start": ClassMoments(torch.zeros(5, 8), torch.ones(5, 8))},
            ValueError,
            r"start must have moments of 6 rows \(classes, all\) and 8 channels, got \(5, 8\)",
        ),
        ({"guidance": 2.0}, ValueError, "guidance=2.0 needs a model trained with label dropout"),
        ({"guidance": float("nan")}, ValueError, "guidance must be finite, got nan"),
        ({"guidance": "2"}, TypeError, "guidance must be a number, got '2'"),
        ({"rate": 0}, ValueError, "rate must be above 0, got 0"),
        ({"rate": True}, TypeError, "rate must be a number, got True"),
        ({"eager": 1}, TypeError, "eager must be True or False, got 1"),
        ({"eta": 0.5}, ValueError, "ddpm has no eta"),
        ({"eta": None}, TypeError, "eta must be a number, got None"),
        ({"steps": 2.0, "sampler": "ddim"}, TypeError, "steps must be an integer, got 2.0"),
        ({"steps": 99, "sampler": "dpm++"}, ValueError, "99"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        model().sample(n=1, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bf16"},
        {"start": "matched"},
        {"start": Moments(torch.zeros(1), torch.ones(1))},
        {"eta": 0.5},
        {"guidance": 2.0},
        {"rate": 0.2},
        {"eager": True},
        {"known": torch.zeros(12, 500)},
        {"mask": torch.ones(12, 500, dtype=torch.bool)},
    ],
)
def test_a_gan_takes_none_of_them(options: dict[str, Any]) -> None:
    gan: Any = tiny_gan(NAMES[0])
    gan.card = checkpoint._implied_card(gan)
    name = next(iter(options))
    with pytest.raises(ValueError, match=f"draws in one pass, it takes no {name}; got {name}"):
        sampling.sample(gan, n=1, **options)

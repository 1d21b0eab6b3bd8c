"""Drawing ECGs from a GAN: seeds, latents that are kept, varied and blended, lengths, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ecgcore import checkpoint, data, models, random, sampling
from ecgcore.models.card import ModelCard
from tiny_gan import NAMES, tiny_gan


def loaded(name: str = NAMES[0]) -> Any:
    """A tiny model as ``load`` would return it."""
    model: Any = tiny_gan(name)
    model.card = checkpoint._implied_card(model)
    sampling.bind(model)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_record_i_depends_on_the_seed_and_i_alone(name: str) -> None:
    model = loaded(name)
    state = torch.get_rng_state()
    whole = model.sample(n=7, seed=3)
    assert whole.x.shape == (7, 12, 500)
    assert whole.leads == data.LEADS
    for n, batch_size in ((7, 3), (7, 1), (4, 4), (1, 5)):
        part = model.sample(n=n, seed=3, batch_size=batch_size)
        assert (part.x - whole.x[:n]).abs().max() <= 1e-5 * whole.x.abs().max()
        assert torch.equal(part.noise, whole.noise[:n])
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.allclose(model.sample(n=1, seed=4).x, whole.x[:1], atol=1e-3)
    assert not torch.allclose(whole.x[0], whole.x[5], atol=1e-3)  # the same label


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_generator_on_that_noise(name: str) -> None:
    model = loaded(name)
    noise = random.uniform(model.latent_shape(500), seed=9, records=range(3), draw=0)
    with torch.no_grad():
        x = model(noise, torch.eye(5)[:3])
    batch = model.train().sample(n=3, seed=9)
    assert model.training
    model.eval()
    assert torch.equal(batch.x, data.to_twelve_leads(x, basis="I-aVF", order="ptbxl"))
    assert torch.equal(batch.noise, noise)


@pytest.mark.parametrize("name", NAMES)
def test_a_record_is_kept_varied_and_blended(name: str, tmp_path: Any) -> None:
    model = loaded(name)
    drawn = model.sample("MI", n=2, seed=1)
    again = model.sample("MI", noise=drawn.noise)
    assert torch.equal(again.x, drawn.x)
    assert again.seed is None
    assert torch.equal(again.noise, drawn.noise)
    other = model.sample("NORM", noise=drawn.noise[:1])  # the same record, in another class
    assert other.labels.tolist() == [[0, 0, 0, 1, 0]]
    assert not torch.equal(other.x, drawn.x[:1])
    steps = torch.linspace(0, 1, 3)[:, None, None]
    blend = model.sample("MI", noise=torch.lerp(drawn.noise[:1], drawn.noise[1:], steps).numpy())
    torch.testing.assert_close(blend.x[[0, 2]], drawn.x, rtol=1e-4, atol=1e-5)
    assert "given latents" in repr(blend)
    assert blend.title(1) == "MI, record 1, given latents"
    assert "given latents, record 0" in blend.to_wfdb(tmp_path)[0].read_text()


def test_lengths_and_labels() -> None:
    model = loaded()
    assert model.sample("MI+CD", n=1, length=1250, seed=0).x.shape == (1, 12, 1250)
    assert loaded(NAMES[1]).sample(n=1, length=1000, seed=0).x.shape == (1, 12, 1000)
    rows = model.sample(noise=torch.zeros(7, 4, 6)).labels
    assert rows.argmax(1).tolist() == [0, 1, 2, 3, 4, 0, 1]


def test_units_and_leads_of_deepfake_ecg() -> None:
    model: Any = models.P2PGenerator(model_size=5)
    model.card = checkpoint._implied_card(model)
    batch = sampling.sample(model, n=2, seed=0)
    assert batch.x.shape == (2, 12, 5000)
    assert (batch.fs, batch.class_names, batch.labels.shape) == (500, (), (2, 0))
    with torch.no_grad():
        out = model.eval()(batch.noise)
    torch.testing.assert_close(batch.x[:, 1], 6 * out[:, 1])
    torch.testing.assert_close(batch.x[:, 2], batch.x[:, 1] - batch.x[:, 0], rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"multiple of 2500, got 500.*next ones are 2500"):
        sampling.sample(model, n=2, length=500)
    with pytest.raises(ValueError, match="labels must be None"):
        sampling.sample(model, labels="MI")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"steps": 10}, ValueError, "takes neither steps nor a sampler; got steps=10"),
        ({"sampler": "ddim"}, ValueError, "neither steps nor a sampler; .* sampler='ddim'"),
        ({"length": 600}, ValueError, "multiple of 125, got 600; the next ones are 500 and 625"),
        ({"length": 0}, ValueError, "length must be at least 1, got 0"),
        ({"noise": torch.zeros(2, 4, 7)}, ValueError, r"\(B, rows, 6\), got \(B, 4, 7\)"),
        ({"noise": torch.zeros(4, 6)}, ValueError, r"got \(B, 6\)"),
        ({"noise": torch.zeros(())}, ValueError, r"got \(B\)"),
        ({"noise": torch.zeros(2, 4, 6), "n": 3}, ValueError, "must hold n = 3 latents, got 2"),
        ({"noise": torch.zeros(2, 4, 6), "seed": 3}, ValueError, "a seed or noise, not both"),
        ({"noise": torch.zeros(2, 4, 6), "length": 625}, ValueError, "give 500 samples"),
        ({"noise": torch.zeros(2, 4, 6).int()}, TypeError, "must be floating, got torch.int32"),
        ({"noise": np.zeros((0, 4, 6))}, ValueError, "n must be at least 1, got 0"),
    ],
)
def test_options_a_gan_does_not_take(options: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        loaded().sample(**options)


def test_the_bar_counts_batches(capsys: pytest.CaptureFixture[str]) -> None:
    loaded().sample(n=3, batch_size=2, progress=True)
    assert "2/2" in capsys.readouterr().err


def test_a_card_may_say_something_else() -> None:
    model = loaded()
    model.card = ModelCard(("a", "b", "c", "d", "e"), tuple("hijklmno"), 250, 625, scale=2.0)
    batch = model.sample("b", n=1, seed=0)
    assert batch.x.shape == (1, 8, 625)
    assert batch.leads == tuple("hijklmno")
    with torch.no_grad():
        torch.testing.assert_close(2 * batch.x, model(batch.noise, torch.eye(5)[1:2]))

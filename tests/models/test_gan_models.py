"""The GANs' networks: keys and counts at full size, seeded weights, sizes, pairs, errors."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch

from ecgcore import gan, models
from ecgcore.errors import ConfigError
from ecgcore.models.critic import output_lengths, shortest_length
from ecgcore.nn.unused import unused_shapes
from support import ROOT, need_shared, recorded

WAVEGAN = {"model_size": 5, "num_channels": 3, "latent_dim": 6, "label_embed_classes": 4}
P2P = {"model_size": 5, "n_channels": 3, "label_embed_classes": 4}
CRITIC = {"model_size": 1, "num_channels": 3, "length": 250}
PAIR = {
    "generator": {"latent_dim": 6, "label_embed_classes": 4},
    "discriminator": {"shift_factor": 1, "alpha": 0.1},
    "model": {"model_size": 5, "num_channels": 3},
    "dataset": {"segment_length": 250},
}


def generators() -> list[models.Generator]:
    return [models.CondWaveGANGenerator(**WAVEGAN), models.CondP2PGenerator(**P2P)]


def table() -> dict:
    return json.loads(need_shared("fixtures", "full_size_state_dict_shapes.json").read_text())


@pytest.mark.parametrize("config", ["wavegan_star", "pulse2pulse"])
@pytest.mark.parametrize("data", ["ECG", "Sinusoid"])
def test_full_size_pair_has_the_references_keys_shapes_and_counts(config, data):
    with torch.device("meta"):
        model = models.from_config(ROOT / "configs" / f"{config}_{data.lower()}.json")
    wanted = table()[f"cond_{config}_{data}/G"]
    own, critic = {}, {}
    for key, tensor in model.state_dict().items():
        (critic if key.startswith("discriminator.") else own)[key] = list(tensor.shape)
    left_out = {key: list(shape) for key, shape in unused_shapes(model).items()}
    assert own | left_out == {key: shape for key, (shape, _, _) in wanted["state_dict"].items()}
    assert list(own) == [key for key in wanted["state_dict"] if key in own]
    parameters, theirs = model.networks()
    numbers = [*(p.shape for p in parameters.values())]
    numbers += [torch.Size(s) for k, s in left_out.items() if ".bn." not in k]
    assert sum(shape.numel() for shape in numbers) == wanted["n_parameters"]

    wanted = table()[f"cond_{config}_{data}/D"]
    assert {k.removeprefix("discriminator."): shape for k, shape in critic.items()} == {
        key: shape for key, (shape, _, _) in wanted["state_dict"].items()
    }
    assert sum(p.numel() for p in theirs.values()) == wanted["n_parameters"]


@pytest.mark.parametrize("name", ["WaveGAN_G", "P2P_G", "WaveGAN_D"])
def test_a_seed_gives_the_references_initial_weights(name):
    r = recorded("init_seeded")
    kwargs = {k: v for k, v in r.config["kwargs"][name].items() if k != "note"}
    make = {
        "WaveGAN_G": models.CondWaveGANGenerator,
        "P2P_G": models.CondP2PGenerator,
        "WaveGAN_D": models.CondWaveGANDiscriminator,
    }[name]
    torch.manual_seed(r.config["seed"])
    state = make(**kwargs).state_dict()
    assert torch.equal(torch.rand(4), r[f"out/{name}/__next_rand"])
    for key, value in state.items():
        assert torch.equal(value, r[f"out/{name}/{key}"]), key


@pytest.mark.parametrize("rows", [1, 3, 8, 16])
def test_wavegan_makes_125_samples_per_row(rows):
    model = models.CondWaveGANGenerator(**WAVEGAN).eval()
    noise = gan.latent((2, *model.latent_shape(125 * rows)))
    assert noise.shape == (2, rows, 6)
    out = model(noise, torch.eye(4)[:2])
    assert out.shape == (2, 3, 125 * rows)
    assert out.abs().max() <= 1


@pytest.mark.parametrize(("samples", "made"), [(500, 500), (991, 1000), (999, 1000), (2500, 2500)])
def test_pulse2pulse_takes_multiples_of_500(samples, made):
    model = models.CondP2PGenerator(**P2P).eval()
    assert model(gan.latent((2, 3, samples)), torch.eye(4)[:2]).shape == (2, 3, made)
    assert model.latent_shape(made) == (3, made)


def test_unconditional_pulse2pulse():
    model = models.P2PGenerator(model_size=5, num_channels=2)
    assert model.usual["length"] == 5000
    assert model(gan.latent((2, *model.latent_shape(5000)))).shape == (2, 2, 5000)
    assert model(gan.latent((1, 2, 2499))).shape == (1, 2, 2500)
    assert models.from_config(model.config).config == model.config


@pytest.mark.parametrize(
    ("index", "length", "message"),
    [
        (0, 1001, "length must be a multiple of 125, got 1001; the next ones are 1000 and 1125"),
        (0, 60, "length must be a multiple of 125, got 60; the next ones are 125"),
        (0, 0, "length must be a multiple of 125, got 0"),
        (1, 1250, "length must be a multiple of 500, got 1250; the next ones are 1000 and 1500"),
    ],
)
def test_lengths_that_cannot_be_made(index, length, message):
    with pytest.raises(ValueError, match=message):
        generators()[index].latent_shape(length)


@pytest.mark.parametrize(
    ("index", "noise", "label", "message"),
    [
        (0, (2, 8, 7), (2, 4), r"CondWaveGANGenerator: noise must have shape \(B, rows, 6\)"),
        (0, (2, 6), (2, 4), r"CondWaveGANGenerator: noise .* got \(B, 6\)"),
        (0, (2, 8, 6), (2, 5), r"label must have shape \(B, classes\) = \(2, 4\), got \(2, 5\)"),
        (1, (2, 4, 500), (2, 4), r"CondP2PGenerator: noise must have shape \(B, 3, L\)"),
        (1, (2, 3, 750), (2, 4), "L a multiple of 500, or up to 9 less, got"),
        (1, (2, 3, 990), (2, 4), "L a multiple of 500"),
        (1, (2, 3, 0), (2, 4), "L a multiple of 500"),
        (1, (2, 3, 500), (1, 4), r"label must have shape .* got \(1, 4\)"),
    ],
)
def test_wrong_inputs_of_a_generator(index, noise, label, message):
    with pytest.raises(ValueError, match=message):
        generators()[index](torch.zeros(noise), torch.zeros(label))


def test_critic_shifts_are_drawn_or_given():
    critic = models.CondWaveGANDiscriminator(**CRITIC, shift_factor=2)
    x = torch.randn(4, 3, 250)
    torch.manual_seed(5)
    drawn = critic(x)
    torch.manual_seed(5)
    shifts = critic.draw_shifts(4)
    assert shifts.shape == (5, 4)
    assert torch.equal(critic(x, shifts=shifts), drawn)
    assert drawn.shape == (4, 1)
    assert not torch.equal(critic(x), drawn)


@pytest.mark.parametrize("length", [shortest_length(), 500, 999, 5000])
def test_critic_of_any_length(length):
    critic = models.CondP2PDiscriminator(model_size=1, length=length, shift_factor=0)
    assert critic(torch.randn(2, 8, length)).shape == (2, 1)
    assert critic.fc1.in_features == 25 * output_lengths(length)[-1]


def test_shortest_length_is_the_shortest():
    assert output_lengths(shortest_length())[-1] == 1
    assert output_lengths(shortest_length() - 1)[-1] < 1


@pytest.mark.parametrize(
    ("x", "shifts", "message"),
    [
        ((2, 3, 251), None, r"x must have shape \(B, 3, 250\), got \(2, 3, 251\)"),
        ((2, 4, 250), None, r"x must have shape"),
        ((3, 250), None, r"x must have shape"),
        ((2, 3, 250), (5, 3), r"shifts must have shape \(5, 2\), got \(5, 3\)"),
        ((2, 3, 250), (4, 2), r"shifts must have shape"),
    ],
)
def test_wrong_inputs_of_a_critic(x, shifts, message):
    critic = models.CondWaveGANDiscriminator(**CRITIC)
    shifts = None if shifts is None else torch.zeros(shifts, dtype=torch.int64)
    with pytest.raises(ValueError, match=f"CondWaveGANDiscriminator: {message}"):
        critic(torch.zeros(x), shifts)


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        ("CondWaveGANGenerator", {"model_size": 4}, "model.model_size must be an integer >= 5"),
        ("CondWaveGANGenerator", {"n_channels": 8}, "unknown key 'n_channels'.*'num_channels'"),
        ("CondWaveGANGenerator", {"latent_dim": 0}, "generator.latent_dim must be an integer >= 1"),
        ("CondWaveGANGenerator", {"upsample": False}, "generator.upsample must be true"),
        ("CondWaveGANGenerator", {"latent_dim": float("nan")}, "latent_dim .* got nan"),
        ("CondP2PGenerator", {"label_embed_classes": 0}, "label_embed_classes must be an integer"),
        ("CondP2PGenerator", {"n_channels": "8"}, "model.n_channels must be an integer >= 1"),
        ("P2PGenerator", {"label_embed_classes": 5}, "unknown key 'label_embed_classes'"),
        ("CondP2PDiscriminator", {"alpha": 1.5}, r"discriminator.alpha .* in \[0, 1\), got 1.5"),
        ("CondP2PDiscriminator", {"length": 190}, "length must be at least 191 samples, got 190"),
        (
            "CondP2PDiscriminator",
            {"shift_factor": 15},
            "shift_factor must be in 0 .. 14",
        ),
        ("CondP2PDiscriminator", {"shift_factor": -1}, "shift_factor must be an integer >= 0"),
    ],
)
def test_settings_that_cannot_work(make, settings, message):
    with pytest.raises(ConfigError, match=message):
        getattr(models, make)(**settings)


def test_a_pair_from_a_config():
    before = copy.deepcopy(PAIR)
    model = models.from_config(PAIR)
    assert before == PAIR
    assert isinstance(model, models.CondWaveGANGenerator)
    critic = model.discriminator
    assert isinstance(critic, models.CondWaveGANDiscriminator)
    assert (critic.length, critic.slope, critic.ps1.n) == (250, 0.1, 1)
    assert model.config["discriminator"] == {"shift_factor": 1, "alpha": 0.1, "length": 250}
    again = models.from_config(json.loads(json.dumps(model.config)))
    assert again.config == model.config
    again.load_state_dict(model.state_dict())

    alone = models.from_config({k: v for k, v in PAIR.items() if k != "discriminator"} | NAME)
    assert alone.discriminator is None
    assert "discriminator" not in alone.config


NAME = {"model_name": "CondWaveGANGenerator"}


def test_a_critic_of_another_size_than_its_generator():
    config = PAIR | {"discriminator": {"model_size": 2}} | NAME
    model = models.from_config(config)
    assert model.discriminator.conv1.out_channels == 2
    again = models.from_config(model.config)
    assert again.config == model.config
    again.load_state_dict(model.state_dict())


def test_the_networks_of_a_pair_are_told_apart():
    model = models.from_config(PAIR)
    own, critic = model.networks()
    assert len(own) + len(critic) == len(list(model.parameters()))
    assert {id(p) for p in critic.values()} == {id(p) for p in model.discriminator.parameters()}


def test_a_generators_own_state_dict_leaves_the_critic_as_it_is():
    model, other = models.from_config(PAIR), models.CondWaveGANGenerator(**WAVEGAN)
    before = copy.deepcopy(model.discriminator.state_dict())
    model.load_state_dict(other.state_dict())
    assert torch.equal(model.fc1.weight, other.fc1.weight)
    assert all(torch.equal(v, before[k]) for k, v in model.discriminator.state_dict().items())
    state = model.state_dict()
    del state["discriminator.fc1.bias"]
    with pytest.raises(RuntimeError, match=r"Missing key.*discriminator\.fc1\.bias"):
        model.load_state_dict(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"generator": {"latent": 6}},
            "generator: unknown key 'latent' .*'latent_dim'",
        ),
        ({"model": {"n_channels": 3}}, "model: unknown key 'n_channels' .*'num_channels'"),
        ({"model": {"latent_dim": 3}}, "model: unknown key 'latent_dim'"),
        ({"discriminator": {"shift": 2}}, "discriminator: unknown key 'shift' .*'shift_factor'"),
        ({"dataset": {"segment_length": 300}}, "discriminator.length: .* multiple of 125, got 300"),
        ({"dataset": {"segment_length": 125}}, "discriminator.length must be at least 191"),
    ],
)
def test_wrong_pairs(change, message):
    with pytest.raises(ConfigError, match=message):
        models.from_config(PAIR | change | NAME)


def test_survives_copying_pickling_and_double():
    for model, shape in zip(generators(), ((2, 2, 6), (2, 3, 500)), strict=True):
        model.eval()
        noise, label = gan.latent(shape), torch.eye(4)[:2]
        with torch.no_grad():
            expected = model(noise, label)
            assert torch.equal(copy.deepcopy(model)(noise, label), expected)
            assert torch.equal(pickle.loads(pickle.dumps(model))(noise, label), expected)
            wide = model.double()(noise, label)  # the noise may stay single
        assert wide.dtype == torch.float64
        torch.testing.assert_close(wide.float(), expected, rtol=1e-4, atol=1e-5)


def test_records_of_a_batch_do_not_see_each_other_in_eval():
    for model, shape in zip(generators(), ((3, 2, 6), (3, 3, 500)), strict=True):
        noise, label = gan.latent(shape), torch.eye(4)[:3]
        with torch.no_grad():
            together = model.eval()(noise, label)
            for i in range(3):
                alone = model(noise[i : i + 1], label[i : i + 1])
                torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-4, atol=1e-5)


def test_construction_leaves_the_default_dtype_alone():
    torch.set_default_dtype(torch.float64)
    try:
        assert generators()[0].fc1.weight.dtype == torch.float64
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)

"""Conditional batch normalisation, phase shuffle and the upsampling convolution as modules."""

from __future__ import annotations

import pytest
import torch

from ecgcore import nn
from ecgcore.testing.compare import relative_error
from support import recorded, recorded_names


@pytest.mark.parametrize("name", recorded_names("cbn__*"))
def test_recorded_normalisation(name):
    r = recorded(name)
    layer = nn.ConditionalBatchNorm1d(r.config["num_features"], r.config["num_classes"])
    layer.load_state_dict(r.under("state"))
    layer.train(r.config["training"])
    x, y = (r[f"in/{key}"].requires_grad_() for key in "xy")
    out = layer(x, y)
    assert relative_error(out, r["out64/out"]) <= 1e-6
    (out * r["in/cot"]).sum().backward()
    tiny = 1e-2 if r["in/x"].shape[0] * r["in/x"].shape[2] == 2 else 1e-6  # nearly zero gradient
    assert relative_error(x.grad, r["grad64/in/x"]) <= tiny
    assert relative_error(y.grad, r["grad64/in/y"]) <= 1e-6
    assert relative_error(layer.embed.weight.grad, r["grad64/state/embed.weight"]) <= 1e-6
    after = r.under("state_after")
    assert list(layer.state_dict()) == list(after)
    for key, value in layer.state_dict().items():
        torch.testing.assert_close(value, after[key], rtol=1e-6, atol=1e-7)


def test_labels_add_up_and_none_gives_zero():
    layer = nn.ConditionalBatchNorm1d(3, 5).eval()
    x = torch.randn(2, 3, 7)
    y = torch.tensor([[1.0, 0, 1, 0, 0], [0, 0, 0, 0, 0]])
    out = layer(x, y)
    ones = [layer(x[:1], torch.eye(5)[[c]]) for c in (0, 2)]
    torch.testing.assert_close(out[:1], ones[0] + ones[1])
    assert (out[1] == 0).all()
    assert torch.equal(layer(x, y.long()), out)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh"])
def test_the_activation_comes_last(activation):
    plain, fused = (
        nn.ConditionalBatchNorm1d(3, 5),
        nn.ConditionalBatchNorm1d(3, 5, activation=activation),
    )
    fused.load_state_dict(plain.state_dict())
    x, y = torch.randn(4, 3, 9), torch.eye(5)[[0, 1, 2, 4]]
    expected = getattr(torch.nn.functional, activation)(plain(x, y))
    torch.testing.assert_close(fused(x, y), expected)
    assert int(fused.bn.num_batches_tracked) == 1


def test_one_value_per_channel_cannot_be_normalised_in_training():
    layer = nn.ConditionalBatchNorm1d(3, 5)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layer(torch.zeros(1, 3, 1), torch.eye(5)[:1])
    assert layer.eval()(torch.zeros(1, 3, 1), torch.eye(5)[:1]).shape == (1, 3, 1)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ((2, 4, 7), (2, 5), r"x must have shape \(B, 3, L\), got \(2, 4, 7\)"),
        ((2, 3), (2, 5), r"x must have shape \(B, 3, L\), got \(2, 3\)"),
        ((2, 3, 7), (2, 4), r"y must have shape \(B, classes\) = \(2, 5\), got \(2, 4\)"),
        ((2, 3, 7), (1, 5), r"y must have shape .* got \(1, 5\)"),
    ],
)
def test_wrong_shapes(x, y, message):
    with pytest.raises(ValueError, match=f"ConditionalBatchNorm1d: {message}"):
        nn.ConditionalBatchNorm1d(3, 5)(torch.zeros(x), torch.zeros(y))


@pytest.mark.parametrize("sizes", [(0, 5), (3, 0)])
def test_sizes_below_one(sizes):
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        nn.ConditionalBatchNorm1d(*sizes)


@pytest.mark.parametrize("name", recorded_names("phase_shuffle__n*"))
def test_recorded_shuffles(name):
    r = recorded(name)
    layer = nn.PhaseShuffle(r.config["n"])
    x = r["in/x"].requires_grad_()
    y = layer(x, r["in/k"])
    assert torch.equal(y, r["out/y"])
    (y * r["in/cot"]).sum().backward()
    torch.testing.assert_close(x.grad, r["grad/in/x"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 7])
@pytest.mark.parametrize("batch", [4, 32])
def test_a_seed_gives_the_references_shifts(seed, batch):
    r = recorded("phase_shuffle__rng_draws")
    layer = nn.PhaseShuffle(r.config["n"]).eval()  # it moves in eval() too
    expected = r[f"out/k_seed{seed}_B{batch}"]
    torch.manual_seed(seed)
    assert torch.equal(torch.stack([layer.draw(batch) for _ in range(5)]), expected)
    torch.manual_seed(seed)
    ramp = torch.arange(20.0).expand(batch, 1, 20)
    for shifts in expected:
        assert torch.equal(layer(ramp)[:, 0, 10], 10.0 - shifts)
    generator = torch.Generator().manual_seed(seed)
    state = torch.random.get_rng_state()
    assert torch.equal(layer.draw(batch, generator), expected[0])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_no_shift_draws_nothing():
    layer, state = nn.PhaseShuffle(0), torch.random.get_rng_state()
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    assert layer(x) is x
    assert (layer.draw(2) == 0).all()
    assert torch.equal(torch.random.get_rng_state(), state)
    with pytest.raises(ValueError, match="PhaseShuffle: n must be at least 0, got -1"):
        nn.PhaseShuffle(-1)


def test_upsampling_convolution_drops_the_unused_layer():
    layer = nn.UpsampleConv1d(3, 4, 5, scale=2)
    assert list(layer.state_dict()) == ["conv1d.weight", "conv1d.bias"]
    assert layer.unused == {"Conv1dTrans.weight": (3, 4, 5), "Conv1dTrans.bias": (4,)}
    theirs = layer.state_dict() | {key: torch.ones(1) for key in layer.unused}
    assert str(layer.load_state_dict(theirs)) == "<All keys matched successfully>"
    with pytest.raises(RuntimeError, match="Unexpected"):
        layer.load_state_dict(layer.state_dict() | {"other.weight": torch.ones(1)})
    x = torch.randn(2, 3, 6)
    y = torch.nn.functional.interpolate(x, scale_factor=2)
    expected = torch.nn.functional.conv1d(y, layer.conv1d.weight, layer.conv1d.bias, padding=2)
    torch.testing.assert_close(layer(x), expected)

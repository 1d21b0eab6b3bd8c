"""In inference convolutions and their normalisation take the time-major way: the same numbers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ecgcore.nn import ConditionalBatchNorm1d, UpsampleConv1d, time_major
from ecgcore.nn.conv import Conv1d
from ecgcore.testing.compare import relative_error
from tiny_gan import NAMES, tiny_gan

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch without oneDNN"
)
SHAPES = [(1, 3, 7), (4, 3, 7), (5, 1, 1), (3, 2, 2), (16, 5, 40)]


@needs_onednn
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1, 2, 5])
def test_upsampling(shape, scale):
    layer = UpsampleConv1d(shape[1], 4, 9, scale=scale).eval()
    # Another length in between has other taps: those remembered must not be used for it.
    for length in (shape[2], shape[2] + 1, shape[2]):
        x = torch.randn(*shape[:2], length)
        with torch.no_grad():
            y = layer(x)
            again = layer(x.permute(2, 0, 1).contiguous().permute(1, 2, 0))
        assert time_major.is_time_major(y) or shape[1] == 1  # one feature looks like either layout
        with_gradients = layer(x).detach()  # by ecgcore.ops.upsample_conv1d
        assert relative_error(y, with_gradients) <= 1e-6
        assert relative_error(again, with_gradients) <= 1e-6


@needs_onednn
@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_strided_convolution(shape, stride):
    layer = Conv1d(shape[1], 6, 5, stride, 2).eval()
    plain = nn.Conv1d(shape[1], 6, 5, stride, 2)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(shape)
    with torch.no_grad():
        y = layer(x)
        assert time_major.is_time_major(y) or shape[1] == 1
        assert relative_error(y, plain(x)) <= 1e-6
    assert torch.equal(layer(x), plain(x))


@needs_onednn
@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu", "tanh"])
@pytest.mark.parametrize("shape", [(1, 3, 7), (4, 3, 7), (5, 3, 1)])
def test_normalisation(activation, shape):
    layer = ConditionalBatchNorm1d(3, 5, activation=activation).eval()
    layer.bn.running_mean.normal_()
    layer.bn.running_var.uniform_(0.1, 3.0)
    nn.init.normal_(layer.embed.weight)
    x = torch.randn(shape[2], *shape[:2]).permute(1, 2, 0)
    label = torch.rand(shape[0], 5).round()
    expected = layer(x, label).detach()
    with torch.no_grad():
        y = layer(x, label)
    assert time_major.is_time_major(y)
    assert relative_error(y, expected) <= 1e-6


@needs_onednn
def test_what_is_remembered_follows_its_sources():
    norm, conv = ConditionalBatchNorm1d(3, 5).eval(), Conv1d(2, 3, 5, 1, 2).eval()
    up = UpsampleConv1d(3, 3, 5, scale=2).eval()
    x, label = torch.randn(4, 2, 8), torch.eye(5)[:4]

    def run():
        return up(norm(conv(x), label))

    with torch.no_grad():
        first = run()
        assert torch.equal(run(), first)
        for tensor in (
            *(p for m in (norm, conv, up) for p in m.parameters()),
            norm.bn.running_mean,
            norm.bn.running_var,
        ):
            before = run()
            tensor.mul_(1.5).add_(0.1)
            after = run()
            assert not torch.equal(after, before)
            with torch.enable_grad():
                assert relative_error(after, run().detach()) <= 1e-6
        twin = copy.deepcopy(up)
        twin.conv1d.weight.zero_()
        assert not torch.equal(twin(conv(x)), up(conv(x)))


@needs_onednn
def test_who_takes_this_way():
    layer, x = nn.Identity().eval(), torch.zeros(2, 3, 4)
    assert not time_major.serves(layer, x)  # gradients are on
    with torch.no_grad():
        assert time_major.serves(layer, x)
        assert not time_major.serves(layer, x.double())
        assert not time_major.serves(layer, x[:0])
        assert not time_major.serves(layer, x.to("meta"))
        assert not time_major.serves(layer.train(), x)


@pytest.mark.parametrize("name", NAMES)
def test_generators(name):
    model = tiny_gan(name, critic=False)
    noise, label = torch.randn(3, *model.latent_shape(500)), torch.eye(5)[[0, 2, 3]]
    with torch.no_grad():
        y = model(noise, label)
    assert y.is_contiguous()
    assert relative_error(y, model(noise, label).detach()) <= 1e-6


def test_features_side_by_side():
    a, b = torch.randn(4, 2, 7), torch.randn(4, 3, 7)
    expected = torch.cat([a, b], dim=1)
    ours = [x.permute(2, 0, 1).contiguous().permute(1, 2, 0) for x in (a, b)]
    assert torch.equal(time_major.cat([a, b]), expected)
    for mixed in (ours, [ours[0], b], [a, ours[1]]):
        assert torch.equal(time_major.cat(mixed), expected)
    assert time_major.is_time_major(time_major.cat(ours))
    assert time_major.cat([a, b]).is_contiguous()

"""LocalAttention: block by block, masks, bias, dropout, half precision, errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from ecgcore import nn
from ecgcore.testing.compare import relative_error
from s4_checks import check_compiled, copies


def by_blocks(module: nn.LocalAttention, x: torch.Tensor) -> torch.Tensor:
    """Head by head and block by block."""
    L, B, E = x.shape
    T, H = module.block_length, module.num_heads
    y = torch.zeros_like(x)
    for b in range(B):
        q, k, v = (x[:, b] @ m.weight.t() for m in (module.q, module.k, module.v))
        zeros = k.new_zeros(2 * T, E)
        for h in range(H):
            part = slice(h * E // H, (h + 1) * E // H)
            for start in range(0, L, T):
                rows = slice(start, min(start + T, L))
                padded = [torch.cat([zeros[:T], t, zeros])[start : start + 3 * T] for t in (k, v)]
                logits = q[rows, part] @ padded[0][:, part].t() / math.sqrt(E / H)
                y[rows, b, part] = torch.softmax(logits, -1) @ padded[1][:, part]
    return y @ module.o.weight.t()


@pytest.mark.parametrize(("L", "radius"), [(20, 4), (23, 4), (3, 4), (1, 0), (6, 0), (9, 8)])
def test_is_the_attention_it_says(L, radius):
    module = nn.LocalAttention(12, 3, local_radius=radius).double()
    x = torch.randn(L, 2, 12, dtype=torch.float64)
    y, bias = module(x)
    assert bias is None
    assert relative_error(y, by_blocks(module, x)) <= 1e-12
    strided = x.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert relative_error(module(strided)[0], y) <= 1e-12
    assert module(x[:, :0])[0].shape == (L, 0, 12)


def test_a_mask_leaves_samples_out():
    module = nn.LocalAttention(8, 2, local_radius=3).double()
    x = torch.randn(14, 2, 8, dtype=torch.float64)
    valid = torch.ones(2, 14)
    valid[1, 9:] = 0
    mask = nn.local_attention_mask(valid, 4)
    assert mask.shape == (2, 1, 4, 4, 12)
    y = module(x, mask)[0]
    other = x.clone()
    other[9:, 1] = 100.0
    kept = valid.bool().t()
    assert relative_error(module(other, mask)[0][kept], y[kept]) <= 1e-12
    # Every query sees the keys less than a block away, itself among them.
    seen = mask[0, 0].sum(-1).flatten()[:14]
    assert seen.tolist() == [min(t + 3, 13) - max(t - 3, 0) + 1 for t in range(14)]


@pytest.mark.parametrize("is_decoder", [True, False])
def test_bias_of_relative_positions(is_decoder):
    module = nn.LocalAttention(
        8, 2, local_radius=3, has_relative_attention_bias=True, is_decoder=is_decoder
    )
    assert next(iter(module.state_dict())) == "relative_attention_bias.weight"
    x = torch.randn(9, 2, 8)
    y, bias = module(x)
    assert bias.shape == (1, 1, 2, 4, 12)
    right = bias[0, 0, :, 0, 4:]
    assert (right == right[:, :1]).all() == is_decoder  # all keys to the right share a bucket
    assert torch.equal(module(x, position_bias=bias)[0], y)
    other = nn.LocalAttention(8, 2, local_radius=3)
    other.load_state_dict({k: v for k, v in module.state_dict().items() if "bias" not in k})
    assert torch.equal(other(x, position_bias=bias)[0], y)
    with torch.no_grad():
        module.relative_attention_bias.weight.zero_()
    assert torch.allclose(module(x)[0], other(x)[0], atol=1e-6)


def test_dropout_of_the_weights_in_training_only():
    module = nn.LocalAttention(8, 2, local_radius=3, dropout=0.5).double()
    x = torch.randn(10, 3, 8, dtype=torch.float64)
    expected = by_blocks(module, x)
    assert not torch.equal(module(x)[0], module(x)[0])
    with torch.no_grad():
        mean = module(x.repeat(1, 4000, 1))[0].unflatten(1, (4000, 3)).mean(1)
    assert relative_error(mean, expected) <= 0.1
    assert relative_error(module.eval()(x)[0], expected) <= 1e-12
    module.train().dropout = 1e-12  # drops nothing: the same weights by the other way
    assert relative_error(module(x)[0], expected) <= 1e-10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    module = nn.LocalAttention(8, 2, local_radius=3, has_relative_attention_bias=True)
    x = torch.randn(10, 2, 8)
    expected = module(x)[0]
    half = module.to(dtype)(x.to(dtype))[0]
    assert half.dtype == dtype
    assert relative_error(half, expected) <= 5e-2


def test_copies_and_compiles():
    module = nn.LocalAttention(8, 2, local_radius=3, has_relative_attention_bias=True)
    x = torch.randn(10, 2, 8)
    for other in copies(module):
        assert torch.equal(other(x)[0], module(x)[0])

    class Output(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = module

        def forward(self, x):
            return self.attention(x)[0]

    check_compiled(Output(), x)


def test_gradients_reach_every_parameter():
    module = nn.LocalAttention(8, 2, local_radius=3, has_relative_attention_bias=True)
    F.mse_loss(module(torch.randn(10, 2, 8))[0], torch.randn(10, 2, 8)).backward()
    assert all(p.grad.abs().sum() > 0 for p in module.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embed_dim": 10, "num_heads": 4}, "embed_dim must be a multiple of num_heads, got 10 an"),
        ({"num_heads": 0}, "embed_dim must be a multiple of num_heads, got 8 and 0"),
        ({"local_radius": -1}, "local_radius must be at least 0, got -1"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"relative_attention_num_buckets": 1}, "num_buckets must be at least 2"),
        ({"relative_attention_max_distance": 16}, "beyond the 16 distances .* got 32 and 16"),
    ],
)
def test_errors_of_construction(options, message):
    given = {"embed_dim": 8, "num_heads": 2, "has_relative_attention_bias": True} | options
    with pytest.raises(ValueError, match=message):
        nn.LocalAttention(**given)


@pytest.mark.parametrize("shape", [(10, 8), (10, 2, 7), (0, 2, 8)])
def test_wrong_input(shape):
    with pytest.raises(ValueError, match=r"LocalAttention: x must have shape \(L, B, 8\) with L"):
        nn.LocalAttention(8, 2)(torch.zeros(shape))


def test_wrong_masks_and_biases():
    module = nn.LocalAttention(8, 2, local_radius=3)
    x = torch.zeros(10, 2, 8)
    with pytest.raises(ValueError, match=r"position_bias must have shape \(1, 1, 2, 4, 12\), got"):
        module(x, position_bias=torch.zeros(1, 1, 2, 4, 8))
    with pytest.raises(ValueError, match=r"mask must .*\(B, 1, nb, T, 3 T\)"):
        module(x, torch.ones(2, 1, 2, 4, 12, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"attention_mask must have shape \(B, L\), got \(4,\)"):
        nn.local_attention_mask(torch.ones(4), 4)
    with pytest.raises(ValueError, match="block_length must be at least 1, got 0"):
        nn.local_attention_mask(torch.ones(1, 4), 0)

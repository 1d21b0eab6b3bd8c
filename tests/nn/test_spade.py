"""The SPADE layer: every setting against its formula, dropout, half precision, errors."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from ecgcore import nn
from ecgcore.nn.spade import ACTIVATIONS
from ecgcore.nn.spade_config import SPADE_DEFAULTS, spade_config
from ecgcore.testing.compare import relative_error
from s4_checks import check_compiled, copies

SMALL = {
    "decoder.embed_dim": 8,
    "decoder.ffn_embed_dim": 12,
    "decoder.attention_heads": 2,
    "local_radius": 3,
    "s4_state_dim": 8,
    "max_target_positions": 16,
}


def layer(cfg=None, **options) -> nn.SpadeDecoderLayer:
    """With layer norms and scales that do something."""
    made = nn.SpadeDecoderLayer(SMALL | (cfg or {}), **options)
    with torch.no_grad():
        for name, p in made.named_parameters():
            if "norm" in name or name.startswith(("attn_ln", "w_resid", "c_attn")):
                p.normal_(1.0, 0.3)
    return made


def by_formula(m: nn.SpadeDecoderLayer, x: torch.Tensor, cfg: dict) -> torch.Tensor:
    c = spade_config(SMALL | cfg)
    before = c["decoder.normalize_before"]
    u = m.self_attn_layer_norm(x) if before else x
    g = None if m.s4_module is None else m.s4_module(u)
    a = m.self_attn(g if c["s4_local_combine"] == "stack" and g is not None else u)[0]
    if c["scale_heads"]:
        a = torch.cat([w * p for w, p in zip(m.c_attn, a.chunk(2, -1), strict=True)], -1)
    if c["scale_attn"]:
        a = m.attn_ln(a)
    mixed = a
    if g is not None and c["s4_local_combine"] == "add":
        mixed = c["s4_weight"] * m.norm_global(g) + (1 - c["s4_weight"]) * m.norm_local(a)
    elif g is not None and c["s4_local_combine"] == "concat":
        weight_g, weight_a = m.aggregate.weight.chunk(2, 1)
        mixed = m.norm_global(g) @ weight_g.t() + m.norm_local(a) @ weight_a.t() + m.aggregate.bias
    x1 = x + mixed if before else m.self_attn_layer_norm(x + mixed)
    h = ACTIVATIONS[c["activation_fn"]](m.fc1(m.final_layer_norm(x1) if before else x1))
    h = m.ffn_layernorm(h) if c["scale_fc"] else h
    x2 = (m.w_resid * x1 if c["scale_resids"] else x1) + m.fc2(h)
    return x2 if before else m.final_layer_norm(x2)


NO_S4 = {"layer_idx": 1}


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize(
    ("cfg", "options"),
    [
        ({}, {}),
        ({"s4_weight": 0.8}, {}),
        ({"s4_local_combine": "concat"}, {}),
        ({"s4_local_combine": "stack"}, {"has_relative_attention_bias": True}),
        ({"scale_attn": True}, {}),
        ({"scale_fc": True, "scale_resids": 1}, {}),
        ({"scale_attn": True, "s4_local_combine": "stack"}, {}),
        ({"s4_every_n_layers": 2}, NO_S4),
        ({"s4_every_n_layers": 2, "scale_heads": True, "scale_attn": True}, NO_S4),
        ({"s4_every_n_layers": 2, "s4_local_combine": "stack"}, NO_S4),
        ({"s4_every_n_layers": 2}, {"layer_idx": 2}),
        ({"activation_fn": "gelu_accurate"}, {}),
        ({"activation_fn": "relu_squared"}, {}),
        ({"activation_fn": "swish", "s4_n_ssm": 4}, {}),
    ],
    ids=str,
)
def test_is_the_layer_it_says(cfg, options, before):
    cfg = cfg | {"decoder.normalize_before": before}
    made = layer(cfg, **options).double().eval()
    x = torch.randn(11, 3, 8, dtype=torch.float64)
    y, *nothing, bias = made(x)
    assert nothing == [None, None]
    assert (bias is not None) == ("has_relative_attention_bias" in options)
    assert relative_error(y, by_formula(made, x, cfg)) <= 1e-12
    y.square().sum().backward()
    assert all(p.grad is not None for p in made.parameters())


def test_activations_are_those_of_the_field():
    x = torch.randn(50)
    assert torch.equal(ACTIVATIONS["gelu"](x), F.gelu(x))
    assert torch.equal(ACTIVATIONS["gelu_fast"](x), ACTIVATIONS["gelu_accurate"](x))
    cubic = 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))
    torch.testing.assert_close(ACTIVATIONS["gelu_fast"](x), cubic)
    assert torch.equal(ACTIVATIONS["linear"](x), x)


def test_the_reference_s_defaults():
    with torch.device("meta"):
        made = nn.SpadeDecoderLayer()
    assert made.self_attn.num_heads == 8
    assert made.self_attn.block_length == 128
    assert made.fc1.weight.shape == (2048, 512)
    assert (made.dropout, made.activation_dropout, made.self_attn.dropout) == (0.1, 0.0, 0.0)
    assert made.s4_module.s4.l_max == 1024
    assert made.s4_module.s4.kernel.kernel.n_ssm == 1
    assert not made.s4_module.s4.bidirectional


def test_dropouts_act_where_they_should():
    x = torch.randn(11, 40, 8)
    for name in ("dropout", "activation_dropout", "relu_dropout", "attention_dropout"):
        off = dict.fromkeys(
            ("dropout", "activation_dropout", "relu_dropout", "attention_dropout"), 0.0
        )
        still = layer(off)
        assert torch.equal(still(x)[0], still(x)[0])
        made = layer(off | {name: 0.5})
        made.load_state_dict(still.state_dict())
        assert not torch.equal(made(x)[0], made(x)[0])
        assert torch.equal(made.eval()(x)[0], still.eval()(x)[0])
    both = layer({"activation_dropout": 0.25, "relu_dropout": 0.5})
    assert both.activation_dropout == 0.25


def test_padding_and_masks_reach_their_parts():
    made = layer().eval()
    x = torch.randn(11, 2, 8)
    padding = torch.zeros(2, 11, dtype=torch.bool)
    padding[1, 7:] = True
    mask = nn.local_attention_mask(~padding, 4)
    y = made(x, padding, mask)[0]
    other = x.clone()
    other[7:, 1] = 5.0
    kept = ~padding.t()
    torch.testing.assert_close(made(other, padding, mask)[0][kept], y[kept])
    assert not torch.allclose(made(x)[0][kept], y[kept])


@pytest.mark.parametrize("L", [1, 5, 16, 30])
def test_any_length(L):
    made = layer().eval()
    y = made(torch.randn(L, 2, 8))[0]
    assert y.shape == (L, 2, 8)
    assert torch.isfinite(y).all()


def test_autocast_and_half_precision_input():
    made = layer().eval()
    x = torch.randn(11, 2, 8)
    expected = made(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        y = made(x)[0]
        y.float().square().mean().backward()
    assert relative_error(y, expected) <= 5e-2
    assert all(torch.isfinite(p.grad).all() for p in made.parameters())


def test_copies_and_compiles():
    made = layer({"dropout": 0.0})
    x = torch.randn(11, 2, 8)
    y = made(x)[0]
    for other in copies(made):
        assert torch.equal(other(x)[0], y)

    class Output(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = made

        def forward(self, x):
            return self.layer(x)[0]

    check_compiled(Output(), x)


@pytest.mark.parametrize(
    ("cfg", "options", "message"),
    [
        ({"decoder.embed_dims": 8}, {}, "no 'decoder.embed_dims'; did you mean 'decoder.embed_di"),
        ({3: 8}, {}, "SPADE settings have no 3"),
        ({"local_radius": "127"}, {}, "local_radius must be an integer >= 0, got '127'"),
        ({"local_radius": 2.5}, {}, "local_radius must be an integer >= 0, got 2.5"),
        ({"decoder.embed_dim": 0}, {}, "embed_dim must be an integer >= 1, got 0"),
        ({"decoder.embed_dim": True}, {}, "embed_dim must be an integer >= 1, got True"),
        ({"dropout": 1.0}, {}, r"dropout must be a number in \[0, 1\), got 1.0"),
        ({"s4_weight": float("nan")}, {}, "s4_weight must be a finite number, got nan"),
        ({"scale_fc": "yes"}, {}, "scale_fc must be true or false, got 'yes'"),
        ({"s4_local_combine": "sum"}, {}, "combine must be one of add, concat, stack, got 'sum'"),
        ({"activation_fn": "glu"}, {}, "activation_fn must be one of relu, .*, got 'glu'"),
        ({"activation_fn": None}, {}, "activation_fn must be a name, got None"),
        ({"decoder.attention_heads": 3}, {}, "multiple of num_heads, got 8 and 3"),
        ({"scale_heads": True}, {}, "scale_heads goes with layers without S4 only"),
        ({"cross_self_attention": True}, {}, "cross_self_attention is not available"),
        ({"quant_noise.pq": 1}, {}, "quant_noise.pq is not available"),
        ({"s4_channels": 2}, {}, "s4_channels must be 1, got 2"),
        ({}, {"layer_idx": -1}, "layer_idx must be at least 0, got -1"),
    ],
)
def test_errors_of_construction(cfg, options, message):
    with pytest.raises(ValueError, match=message):
        nn.SpadeDecoderLayer(SMALL | cfg, **options)


def test_whole_floats_and_numbers_for_flags():
    c = spade_config({"local_radius": 15.0, "scale_fc": 1, "s4_weight": 1})
    assert c == {**SPADE_DEFAULTS, "local_radius": 15, "scale_fc": True, "s4_weight": 1.0}
    assert [type(c[k]) for k in ("local_radius", "scale_fc", "s4_weight")] == [int, bool, float]


@pytest.mark.parametrize("shape", [(11, 8), (11, 2, 7), (0, 2, 8)])
def test_wrong_input(shape):
    with pytest.raises(ValueError, match=r"SpadeDecoderLayer: x must have shape \(L, B, 8\) with"):
        layer()(torch.zeros(shape))

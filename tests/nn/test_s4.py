"""S4 and S4Layer: against explicit sums, options, the cache of the kernel's spectrum, copies."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch.nn import functional as F

from ecgcore import _backend, nn
from ecgcore.nn import s4 as s4_module
from ecgcore.testing.compare import relative_error
from s4_checks import check_compiled, copies, plain_convolution


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("hyper", [None, "sigmoid"])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("L", "l_max"), [(9, 9), (6, 16), (13, 8), (1, 4)])
def test_is_the_sum_it_says(bidirectional, hyper, L, l_max, transposed):
    s4 = nn.S4(
        3,
        d_state=8,
        l_max=l_max,
        channels=2,
        bidirectional=bidirectional,
        hyper_act=hyper,
        activation="tanh",
        transposed=transposed,
        precision=2,
    ).double()
    u = torch.randn(2, 3, L, dtype=torch.float64)
    K = s4.kernel(L=L)
    k0, k1 = K.chunk(2, 0) if bidirectional else (K, None)
    y = plain_convolution(k0, k1, u) + s4.D[..., None] * u[:, None]
    if hyper:
        y = torch.sigmoid(y[:, 2:]) * y[:, :2]
    y = torch.tanh(y.flatten(1, 2))
    weight, bias = s4.output_linear.weight, s4.output_linear.bias.flatten()
    expected = torch.einsum("oi,bil->bol", weight, y) + bias[:, None]
    got = s4(u)[0] if transposed else s4(u.transpose(1, 2).contiguous())[0].transpose(1, 2)
    assert relative_error(got, expected) <= 1e-12


@pytest.mark.parametrize("activation", ["gelu", "relu", "silu", "sigmoid", "tanh", None])
@pytest.mark.parametrize("postact", [None, "glu", "gelu", "identity"])
def test_activations(activation, postact):
    s4 = nn.S4(4, d_state=4, l_max=8, activation=activation, postact=postact)
    u = torch.randn(2, 4, 8)
    y = s4.convolve(u)
    raw = nn.S4.convolve(_with(s4, activation=None), u)
    functions = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu, "sigmoid": torch.sigmoid}
    functions |= {"tanh": torch.tanh, None: lambda x: x}
    assert relative_error(y, functions[activation](raw)) <= 1e-5
    out = s4(u)[0]
    assert out.shape == u.shape
    keys = {k for k in s4.state_dict() if k.startswith("output_linear")}
    prefix = "output_linear." + ("" if postact is None else "0.")
    assert keys == {prefix + "weight", prefix + "bias"}
    assert s4.state_dict()[prefix + "weight"].shape == (8 if postact == "glu" else 4, 4)


def _with(module, **attributes):
    module = copy.copy(module)
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


@pytest.mark.parametrize("name", ["uniform", "normal", "xavier", "zero", "one"])
def test_initializers(name):
    weight = nn.S4(6, d_state=4, l_max=8, initializer=name).output_linear.weight
    constant = {"zero": 0.0, "one": 1.0}
    assert (weight == constant[name]).all() if name in constant else weight.std() > 0


def test_weight_norm_takes_both_key_styles():
    s4 = nn.S4(4, d_state=4, l_max=8, weight_norm=True)
    state = s4.state_dict()
    assert "output_linear.parametrizations.weight.original0" in state
    old = {
        k.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): v
        for k, v in state.items()
    }
    other = nn.S4(4, d_state=4, l_max=8, weight_norm=True)
    other.load_state_dict(old)
    u = torch.randn(1, 4, 8)
    assert torch.equal(s4(u)[0], other(u)[0])


def test_dropout_drops_whole_features_in_training_only():
    layer = nn.S4Layer(64, 8, N=4, dropout=0.5, layer_norm=False)
    x = torch.randn(8, 1, 64)
    dropped = (layer(x) == x).all(0).float().mean()
    assert 0.2 < dropped < 0.8
    layer.eval()
    assert not (layer(x) == x).all(0).any()
    s4 = nn.S4(64, d_state=4, l_max=8, dropout=0.5, activation=None)
    kept = s4.dropout(torch.ones(1, 64, 8))
    assert ((kept == 0) | (kept == 2)).all()
    assert (kept == kept[..., :1]).all()
    apart = nn.S4(64, d_state=4, l_max=8, dropout=0.5, transposed=False).dropout
    assert not (apart(torch.ones(1, 8, 64)).std(1) == 0).all()


def test_layer_is_norm_of_the_residual():
    layer = nn.S4Layer(6, 16, N=4).eval()
    x = torch.randn(16, 2, 6)
    y = layer.s4_layer(x.permute(1, 2, 0))[0].permute(2, 0, 1)
    assert relative_error(layer(x), layer.norm_layer(x + y)) <= 1e-6
    bare = nn.S4Layer(6, 16, N=4, layer_norm=False, bidirectional=False).eval()
    assert {k for k in bare.state_dict() if "norm" in k} == set()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_input_with_single_precision_parameters(dtype):
    s4 = nn.S4(4, d_state=4, l_max=8)
    u = torch.randn(2, 4, 8)
    y = s4.convolve(u.to(dtype))
    assert y.dtype == dtype
    assert relative_error(y, s4.convolve(u)) <= 2e-2


def test_autocast():
    layer = nn.S4Layer(6, 16, N=4)
    x = torch.randn(16, 2, 6)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        y.float().square().mean().backward()
    assert relative_error(y, layer(x)) <= 5e-2
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


# The cache.


@pytest.fixture
def counted(monkeypatch):
    """An S4 in eval mode, its input, and a list that grows with every spectrum made."""
    made = []
    make = nn.S4.make_spectrum

    def counting(self, L):
        made.append(L)
        return make(self, L)

    monkeypatch.setattr(nn.S4, "make_spectrum", counting)
    s4 = nn.S4(4, d_state=8, l_max=16, bidirectional=True).eval()
    return s4, torch.randn(2, 4, 16), made


def run(s4, u):
    with torch.no_grad():
        return s4(u)[0]


def test_spectrum_is_made_once(counted):
    s4, u, made = counted
    first = run(s4, u)
    assert torch.equal(run(s4, u), first)
    assert relative_error(run(s4, u[:1]), first[:1]) <= 1e-6
    with torch.inference_mode():
        assert torch.equal(s4(u)[0], first)
    assert made == [16]


def test_spectrum_is_not_cached_in_training_or_where_gradients_are_wanted(counted):
    s4, u, made = counted
    s4(u)[0].sum().backward()
    assert s4.kernel.kernel.C.grad is not None
    s4(u)
    assert len(made) == 2
    s4.train()
    run(s4, u), run(s4, u)
    assert len(made) == 4
    s4.eval()
    for p in s4.kernel.parameters():
        p.requires_grad_(False)
    s4(u), s4(u)
    assert len(made) == 5


CHANGES = {
    "optimiser": lambda s4: torch.optim.SGD([s4.kernel.kernel.C], lr=1.0).step(),
    "parameter in place": lambda s4: s4.kernel.kernel.C.mul_(2),
    "buffer in place": lambda s4: s4.kernel.kernel.log_dt.add_(1),
    "nodes in place": lambda s4: s4.kernel.kernel.omega.mul_(0.9),
    "new parameter": lambda s4: setattr(
        s4.kernel.kernel, "C", torch.nn.Parameter(s4.kernel.kernel.C * 2)
    ),
    "new data": lambda s4: setattr(s4.kernel.kernel.C, "data", s4.kernel.kernel.C.data * 2),
    "load_state_dict": lambda s4: s4.load_state_dict(
        nn.S4(4, d_state=8, l_max=16, bidirectional=True).state_dict()
    ),
    "load_state_dict(assign)": lambda s4: s4.load_state_dict(
        nn.S4(4, d_state=8, l_max=16, bidirectional=True).state_dict(), assign=True
    ),
    "clear_cache after .data": lambda s4: (s4.kernel.kernel.C.data.mul_(2), s4.clear_cache()),
    "train and back after .data": lambda s4: (s4.kernel.kernel.C.data.mul_(2), s4.train().eval()),
    "another length": lambda s4: s4.kernel.kernel.double_length(),
    "switch": lambda s4: setattr(s4.kernel.kernel, "exact_nodes", True),
    "to double and back": lambda s4: (s4.double(), s4.kernel.kernel.C.mul_(2), s4.float()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_spectrum_is_never_stale(counted, change):
    s4, u, made = counted
    s4.kernel.kernel.C.grad = torch.ones_like(s4.kernel.kernel.C)
    run(s4, u)
    with torch.no_grad():
        CHANGES[change](s4)
    after = run(s4, u)
    assert len(made) == 2
    s4.clear_cache()
    assert torch.equal(after, run(s4, u))


def test_freed_memory_that_comes_back_is_no_excuse(counted):
    """New tensors at the address of old ones, with equal versions, over and over."""
    s4, u, _ = counted
    for i in range(20):
        s4.kernel.kernel.C.data = torch.full_like(s4.kernel.kernel.C, float(i))
        cached = run(s4, u)
        s4.clear_cache()
        assert torch.equal(cached, run(s4, u))


def test_lengths_dtypes_and_backends_have_spectra_of_their_own(counted):
    s4, u, made = counted
    run(s4, u)
    run(s4, u[..., :7])
    with _backend.backend("reference"):
        run(s4, u)
    s4.double()
    assert run(s4, u.double()).dtype == torch.float64
    assert made == [16, 7, 16, 16]
    long = torch.randn(1, 4, 20, dtype=torch.float64)
    for _ in range(4):  # doubles the length: made once more for that, then remembered
        run(s4, long)
    assert made == [16, 7, 16, 16, 20, 20]


def test_cache_is_in_no_state_dict_copy_or_pickle(counted):
    s4, u, made = counted
    before = set(s4.state_dict())
    first = run(s4, u)
    assert set(s4.state_dict()) == before
    small = len(pickle.dumps(nn.S4(4, d_state=8, l_max=16, bidirectional=True)))
    assert abs(len(pickle.dumps(s4)) - small) < 100
    others = copies(s4)
    assert made == [16]
    for other in others:
        assert other._cache._entry is None
        assert torch.equal(run(other, u), first)
    with torch.no_grad():
        others[0].kernel.kernel.C.mul_(2)
    assert not torch.equal(run(others[0], u), first)
    assert torch.equal(run(s4, u), first)


def test_tensors_made_in_inference_mode_are_not_trusted(counted):
    _, u, made = counted
    with torch.inference_mode():
        s4 = nn.S4(4, d_state=8, l_max=16, bidirectional=True).eval()
        first = s4(u)[0]
        s4.kernel.kernel.C.mul_(2)
        assert not torch.equal(s4(u)[0], first)
    assert len(made) == 2


def test_inference_mode_leaves_nothing_behind_that_training_could_not_use(counted):
    s4, u, made = counted
    with torch.inference_mode():
        s4(u)
        s4(torch.randn(1, 4, 20))  # doubles the kernel's length
        s4(u)
    for p in s4.parameters():
        p.requires_grad_(False)
    x = u.clone().requires_grad_()
    count = len(made)
    s4(x)[0].sum().backward()
    assert len(made) == count  # the spectrum made in inference mode
    assert x.grad.abs().sum() > 0
    s4.requires_grad_(True).train()
    s4(u)[0].sum().backward()
    with torch.inference_mode():
        s4(torch.randn(1, 4, 40))
    s4(u)[0].sum().backward()


@pytest.mark.parametrize("generation", ["s4model", "elsm"])
def test_under_ddp(tmp_path, generation):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        torch.manual_seed(0)
        if generation == "s4model":
            layer = nn.S4Layer(4, 16, N=8)
        else:
            layer = nn.S4Module({"decoder.embed_dim": 4, "s4_state_dim": 8})
        alone = copy.deepcopy(layer)
        wrapped = torch.nn.parallel.DistributedDataParallel(layer)
        x = torch.randn(16, 2, 4)
        for _ in range(2):
            for model in (wrapped, alone):
                optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
                optimizer.zero_grad()
                model(x).square().mean().backward()
                optimizer.step()
            wrapped.eval(), alone.eval()
            with torch.no_grad():
                assert torch.equal(wrapped(x), alone(x))
                assert torch.equal(wrapped(x), alone(x))
            wrapped.train(), alone.train()
    finally:
        torch.distributed.destroy_process_group()


# Errors, and the rest.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "glu"}, "'glu' belongs in postact"),
        ({"activation": "swoosh"}, "activation must be one of .* got 'swoosh'"),
        ({"hyper_act": "swoosh"}, "activation must be one of .* got 'swoosh'"),
        ({"initializer": "xavier", "postact": "glu"}, "initializer does not go with .* 'glu'"),
        ({"initializer": "orthogonal"}, "initializer must be uniform, .* got 'orthogonal'"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"dropout": float("nan")}, r"dropout must be in \[0, 1\), got nan"),
        ({"d_state": 5}, "N must be even and at least 2, got 5"),
    ],
)
def test_errors_of_construction(options, message):
    with pytest.raises(ValueError, match=message):
        nn.S4(**({"d_model": 4, "d_state": 4, "l_max": 8} | options))


@pytest.mark.parametrize("shape", [(4, 8), (2, 5, 8), (2, 4, 0)])
def test_wrong_input_is_an_error(shape):
    with pytest.raises(ValueError, match=r"S4: u must have shape \(B, 4, L\) with L >= 1, got"):
        nn.S4(4, d_state=4, l_max=8)(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"S4: u must have shape \(B, L, 4\)"):
        nn.S4(4, d_state=4, l_max=8, transposed=False)(torch.zeros(shape))


def test_empty_batch():
    s4 = nn.S4(4, d_state=4, l_max=8)
    y = s4(torch.zeros(0, 4, 8))[0]
    assert y.shape == (0, 4, 8)
    y.sum().backward()
    assert (s4.kernel.kernel.C.grad == 0).all()


def test_compiles_without_a_graph_break():
    check_compiled(nn.S4Layer(6, 16, N=4), torch.randn(16, 2, 6))


def test_meta_device_costs_nothing_and_loads_by_assignment():
    source = nn.S4Layer(6, 16, N=4).eval()
    with torch.device("meta"):
        layer = nn.S4Layer(6, 16, N=4).eval()
    assert all(p.is_meta for p in layer.state_dict().values())
    layer.load_state_dict(source.state_dict(), assign=True)
    x = torch.randn(16, 2, 6)
    assert torch.equal(layer(x), source(x))


def test_transformer_encoder():
    encoder = nn.transformer_encoder()
    x = torch.randn(5, 2, 64)
    assert encoder(x).shape == x.shape
    layer = encoder.layers[0]
    assert layer.linear1.out_features == 64
    assert layer.self_attn.num_heads == 8
    assert len(nn.transformer_encoder(heads=2, layers=3, channels=8).layers) == 3


def test_two_sided_spectrum_places_the_kernels():
    K = torch.randn(4, 3, 5, dtype=torch.float64)
    for L in (5, 8):
        k2 = torch.fft.irfft(s4_module.two_sided_spectrum(K, L, bidirectional=True), n=2 * L)
        assert relative_error(k2[..., :5], K[:2]) <= 1e-12
        assert relative_error(k2.flip(-1)[..., :5], K[2:]) <= 1e-12
        assert k2[..., 5 : 2 * L - 5].abs().sum() <= 1e-12

"""The second generation's S4 and S4Module: explicit sums, options, cache, training, errors."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from ecgcore import _backend
from ecgcore.nn import elsm
from ecgcore.nn.s4 import activation_module
from ecgcore.testing.compare import relative_error
from s4_checks import check_compiled, copies, plain_convolution


def linear(map_, x):
    """A map over features of ``(B, features, L)``, whatever it is made of."""
    m = map_[0] if isinstance(map_, torch.nn.Sequential) else map_
    weight = m.weight.flatten(1)
    y = torch.einsum("oi,bil->bol", weight, x) + m.bias.flatten()[:, None]
    if not isinstance(map_, torch.nn.Sequential):
        return y
    return F.glu(y, 1) if isinstance(map_[1], torch.nn.GLU) else map_[1](y)


OPTIONS = [
    {},
    {"channels": 2},
    {"hyper_act": "sigmoid"},
    {"bottleneck": 2},
    {"gate": 1},
    {"use_pointwise": True},
    {"use_pointwise": True, "postact": None, "activation": "tanh", "channels": 2},
    {"use_pointwise": True, "gate": 3, "bottleneck": 2, "hyper_act": "tanh", "activation": None},
    {"n_ssm": 2, "use_pointwise": True, "postact": "gelu"},
    {"mode": "diag", "measure": "diag-inv", "disc": "bilinear"},
]


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("L", "l_max"), [(9, 9), (6, 16), (13, 8), (1, 4), (7, None)])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_is_the_sum_it_says(options, bidirectional, L, l_max, transposed):
    s4 = elsm.S4(
        4, d_state=8, l_max=l_max, bidirectional=bidirectional, transposed=transposed, **options
    ).double()
    u = torch.randn(2, 4, L, dtype=torch.float64)
    x = u if s4.input_linear is None else linear(s4.input_linear, u)
    Lk = L if l_max is None else min(L, l_max)
    K = s4.kernel(L=Lk)[0]
    k0, k1 = K.chunk(2, 0) if bidirectional else (K, None)
    y = plain_convolution(k0, k1, x) + s4.D[..., None] * x[:, None]
    if "hyper_act" in options:
        value, gate = y.chunk(2, 1)
        y = activation_module(options["hyper_act"])(gate) * value
    y = y.flatten(1, 2)
    if options.get("use_pointwise"):
        y = linear(s4.output_linear, activation_module(options.get("activation", "gelu"))(y))
    else:
        assert not [k for k in s4.state_dict() if k.startswith("output_linear")]
    if "gate" in options:
        y = linear(s4.output_gate, y * linear(s4.input_gate, u))
    got = s4(u) if transposed else s4(u.transpose(1, 2).contiguous()).transpose(1, 2)
    assert got.shape == y.shape
    assert relative_error(got, y) <= 1e-12


def test_keys_follow_the_layout():
    for transposed, axes in ((True, 3), (False, 2)):
        s4 = elsm.S4(4, d_state=4, gate=2, bottleneck=2, use_pointwise=True, transposed=transposed)
        state = s4.state_dict()
        for key in ("input_linear.0", "input_gate.0", "output_gate", "output_linear.0"):
            assert state[f"{key}.weight"].dim() == axes
            assert state[f"{key}.bias"].dim() == 1


@pytest.mark.parametrize(("L", "l_max"), [(16, 16), (10, 16), (24, 16), (10, None)])
@pytest.mark.parametrize("rate", [1.0, 2.0])
@pytest.mark.parametrize("hyper", [None, "sigmoid"])
def test_state_adds_its_response(L, l_max, rate, hyper):
    s4 = elsm.S4(4, d_state=8, l_max=l_max, use_pointwise=True, postact=None, hyper_act=hyper)
    s4.double().eval()
    u = torch.randn(3, 4, L, dtype=torch.float64)
    state = torch.randn(3, 4, 4, dtype=torch.complex128, requires_grad=True)
    y = s4(u, state=state, rate=rate)
    Lk = L if l_max is None else min(L, round(l_max / rate))
    K, K_state = s4.kernel(state=state, rate=rate, L=Lk)
    raw = plain_convolution(K, None, u) + s4.D[..., None] * u[:, None]
    raw[..., :Lk] += K_state
    if hyper:
        raw = torch.sigmoid(raw[:, 1:]) * raw[:, :1]
    assert relative_error(y, linear(s4.output_linear, F.gelu(raw.flatten(1, 2)))) <= 1e-12
    zero = torch.zeros_like(state)
    assert relative_error(s4(u, state=zero, rate=rate), s4(u, rate=rate)) <= 1e-12
    y.sum().backward()
    assert state.grad.abs().sum() > 0


@pytest.mark.parametrize("transposed", [True, False])
def test_lengths_mask_what_lies_beyond(transposed):
    s4 = elsm.S4(4, d_state=8, l_max=16, transposed=transposed, bidirectional=True)
    u = torch.randn(3, 4, 12)
    arranged = u if transposed else u.transpose(1, 2)
    for lengths in (5, torch.tensor([3, 12, 7]), torch.tensor([9])):
        masked = arranged.clone()
        each = torch.as_tensor(lengths).reshape(-1).expand(3)
        for row, length in zip(masked, each.tolist(), strict=True):
            (row[:, length:] if transposed else row[length:]).zero_()
        assert torch.equal(s4(arranged, lengths=lengths), s4(masked))
    assert torch.equal(s4(arranged, lengths=12), s4(arranged))


def test_dropout_in_training_with_an_output_map_only():
    u = torch.ones(1, 64, 8)
    plain = elsm.S4(64, d_state=4, l_max=8, dropout=0.5)
    assert torch.equal(plain(u), plain(u))
    for tied in (False, True):
        s4 = elsm.S4(
            64, d_state=4, l_max=8, dropout=0.5, tie_dropout=tied, use_pointwise=True, n_ssm=1
        )
        assert not torch.equal(s4(u), s4(u))
        kept = s4.dropout(u)
        assert ((kept == 0) | (kept == 2)).all()
        assert (kept == kept[..., :1]).all() == tied
        s4.eval()
        assert torch.equal(s4(u), s4(u))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_input_with_single_precision_parameters(dtype):
    s4 = elsm.S4(4, d_state=4, l_max=8)
    u = torch.randn(2, 4, 8)
    y = s4(u.to(dtype))
    assert y.dtype == dtype
    assert relative_error(y, s4(u)) <= 2e-2


@pytest.mark.parametrize(
    "options",
    [
        {"n_ssm": 1},
        {"use_pointwise": True, "gate": 2, "bottleneck": 2, "bidirectional": True},
        {"mode": "diag", "measure": "diag-lin", "disc": "zoh", "use_pointwise": True},
    ],
    ids=str,
)
def test_training_decreases_the_loss(options):
    s4 = elsm.S4(4, d_state=8, l_max=32, **options)
    u, target = torch.randn(8, 4, 32), torch.randn(8, 4, 32).cumsum(-1) / 4
    optimizer = torch.optim.Adam(s4.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss = (s4(u) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(torch.isfinite(p).all() for p in s4.parameters())


# The cache.


@pytest.fixture
def counted(monkeypatch):
    """An S4 in eval mode, its input, and a list that grows with every spectrum made."""
    made = []
    make = elsm.S4.make_spectrum

    def counting(self, L, rate):
        made.append((L, rate))
        return make(self, L, rate)

    monkeypatch.setattr(elsm.S4, "make_spectrum", counting)
    s4 = elsm.S4(4, d_state=8, l_max=16).eval()
    s4.kernel.kernel.reserve()
    return s4, torch.randn(2, 4, 16), made


def run(s4, u, **options):
    with torch.no_grad():
        return s4(u, **options)


def test_spectrum_is_made_once(counted):
    s4, u, made = counted
    first = run(s4, u)
    assert torch.equal(run(s4, u), first)
    with torch.inference_mode():
        assert torch.equal(s4(u), first)
    assert made == [(16, 1.0)]
    s4(u).sum().backward()
    assert s4.kernel.kernel.C.grad is not None
    assert len(made) == 2
    run(s4, u, rate=2.0)
    assert made[2:] == [(16, 2.0)]


CHANGES = {
    "optimiser": lambda s4: torch.optim.SGD([s4.kernel.kernel.C], lr=1.0).step(),
    "parameter in place": lambda s4: s4.kernel.kernel.log_dt.add_(1),
    "new parameter": lambda s4: setattr(
        s4.kernel.kernel, "w_imag", torch.nn.Parameter(s4.kernel.kernel.w_imag * 2)
    ),
    "load_state_dict": lambda s4: s4.load_state_dict(elsm.S4(4, d_state=8, l_max=16).state_dict()),
    "load_state_dict(assign)": lambda s4: s4.load_state_dict(
        elsm.S4(4, d_state=8, l_max=16).state_dict(), assign=True
    ),
    "another length": lambda s4: s4.kernel.kernel.reserve(L=20),
    "switch": lambda s4: setattr(s4.kernel.kernel, "exact_nodes", False),
    "band limit": lambda s4: setattr(s4.kernel.kernel, "bandlimit", 1e-6),
    "shorter kernel": lambda s4: setattr(s4, "l_max", 3),
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


def test_the_first_forward_in_eval_corrects_and_caches():
    s4 = elsm.S4(4, d_state=8, l_max=16).eval()
    twin = copy.deepcopy(s4)
    u = torch.randn(2, 4, 16)
    with torch.inference_mode():
        first = s4(u)
    assert s4.state_dict()["kernel.kernel.L"] == 16
    assert torch.equal(run(s4, u), first)
    assert relative_error(twin(u), first) <= 1e-6
    s4.train()
    s4(u).sum().backward()  # what inference mode left behind trains
    assert s4.kernel.kernel.C.grad is not None


def test_lengths_dtypes_and_backends_have_spectra_of_their_own(counted):
    s4, u, made = counted
    run(s4, u)
    run(s4, u[..., :7])
    with _backend.backend("reference"):
        run(s4, u)
    s4.double()
    assert run(s4, u.double()).dtype == torch.float64
    assert [L for L, _ in made] == [16, 7, 16, 16]


def test_cache_is_in_no_state_dict_copy_or_pickle(counted):
    s4, u, made = counted
    before = set(s4.state_dict())
    first = run(s4, u)
    assert set(s4.state_dict()) == before
    others = copies(s4)
    assert len(made) == 1
    for other in others:
        assert other._cache._entry is None
        assert torch.equal(run(other, u), first)
    with torch.no_grad():
        others[0].kernel.kernel.C.mul_(2)
    assert not torch.equal(run(others[0], u), first)
    assert torch.equal(run(s4, u), first)


# S4Module.


@pytest.mark.parametrize("is_decoder", [True, False])
def test_module_is_the_layer_in_another_layout(is_decoder):
    cfg = {"decoder.embed_dim": 4, "encoder.embed_dim": 6, "s4_state_dim": 8, "s4_n_ssm": 2}
    module = elsm.S4Module(cfg | {"max_target_positions": 16}, is_decoder).eval()
    width = 4 if is_decoder else 6
    x = torch.randn(12, 3, width)
    y = module(x)
    assert y.shape == x.shape
    assert torch.equal(y, module.s4(x.permute(1, 2, 0)).permute(2, 0, 1))
    later = x.clone()
    later[6:] = 0
    assert (relative_error(module(later)[:6], y[:6]) < 1e-5) == is_decoder  # an encoder looks ahead
    padding = torch.zeros(3, 12, dtype=torch.bool)
    padding[1, 7:] = True
    masked = x.clone()
    masked[7:, 1] = 0
    assert torch.equal(module(x, padding), module(masked))


def test_module_reads_its_learning_rates():
    module = elsm.S4Module({"s4_lr": '{"dt": 0.001, "A": 0.0}', "decoder.embed_dim": 4})
    kernel = module.s4.kernel.kernel
    assert kernel.log_dt._s4_optimizer == {"weight_decay": 0.0, "lr": 0.001}
    assert "P" in dict(kernel.named_buffers())
    assert elsm.S4Module({"s4_lr": 0.1, "decoder.embed_dim": 4}).s4.kernel.kernel.B._s4_optimizer[
        "lr"
    ] == pytest.approx(0.1)


# Errors, and the rest.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "glu"}, "'glu' belongs in postact"),
        ({"activation": "swoosh"}, "activation must be one of .* got 'swoosh'"),
        ({"hyper_act": "swoosh"}, "activation must be one of .* got 'swoosh'"),
        ({"postact": "swoosh", "use_pointwise": True}, "must be one of .* got 'swoosh'"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"bottleneck": 3}, "bottleneck must divide d_model = 4, got 3"),
        ({"bottleneck": 0}, "bottleneck must be at least 1 or None, got 0"),
        ({"gate": -1}, "gate must be at least 1 or None, got -1"),
        ({"gate": 2}, "without use_pointwise a gate of 8 features .* got 4"),
        ({"d_state": 5}, "N must be even and at least 2, got 5"),
        ({"n_ssm": 3}, "n_ssm must be a divisor of H = 4, got 3"),
    ],
)
def test_errors_of_construction(options, message):
    with pytest.raises(ValueError, match=message):
        elsm.S4(**({"d_model": 4, "d_state": 4, "l_max": 8} | options))


@pytest.mark.parametrize("shape", [(4, 8), (2, 5, 8), (2, 4, 0)])
def test_wrong_input_is_an_error(shape):
    with pytest.raises(ValueError, match=r"S4: u must have shape \(B, 4, L\) with L >= 1, got"):
        elsm.S4(4, d_state=4)(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"S4: u must have shape \(B, L, 4\)"):
        elsm.S4(4, d_state=4, transposed=False)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({}, {"rate": 0.0}, "S4: rate must be a positive number, got 0.0"),
        ({}, {"lengths": torch.tensor([1, 2, 3])}, r"S4: lengths must be one integer or 2, got"),
        ({}, {"lengths": 1.5}, "S4: lengths must be one integer or 2"),
        ({}, {"state": torch.zeros(3, 4, 2) * 1j}, r"state must have shape \(B, 4, 2\) with B = 2"),
        ({}, {"state": torch.zeros(2, 4, 3) * 1j}, r"state must be complex \(S, 4, 2\)"),
        (
            {"bidirectional": True},
            {"state": torch.zeros(2, 4, 2) * 1j},
            "state is not defined for a bidirectional layer",
        ),
    ],
)
def test_errors_of_forward(options, arguments, message):
    s4 = elsm.S4(4, d_state=4, l_max=8, **options)
    with pytest.raises(ValueError, match=message):
        s4(torch.zeros(2, 4, 8), **arguments)


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"s4_channels": 2}, "S4Module: s4_channels must be 1, got 2"),
        (
            {"s4_state_dims": 8},
            "SPADE settings have no 's4_state_dims'; did you mean 's4_state_dim'",
        ),
    ],
)
def test_errors_of_the_module(cfg, message):
    with pytest.raises(ValueError, match=message):
        elsm.S4Module(cfg)


def test_wrong_input_of_the_module_is_an_error():
    module = elsm.S4Module({"decoder.embed_dim": 4})
    with pytest.raises(ValueError, match=r"S4Module: x must have shape \(L, B, F\), got \(3, 4\)"):
        module(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"padding_mask must be bool of shape \(B, L\) = \(2, 3\)"):
        module(torch.zeros(3, 2, 4), torch.zeros(3, 2, dtype=torch.bool))


def test_empty_batch():
    s4 = elsm.S4(4, d_state=4, l_max=8)
    y = s4(torch.zeros(0, 4, 8))
    assert y.shape == (0, 4, 8)
    y.sum().backward()
    assert (s4.kernel.kernel.C.grad == 0).all()


@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("mode", ["nplr", "diag"])
def test_compiles_without_a_graph_break(mode, corrected):
    s4 = elsm.S4(6, d_state=4, l_max=16, mode=mode, measure="diag-lin", use_pointwise=True)
    if corrected:
        s4(torch.randn(1, 6, 16))
    check_compiled(s4, torch.randn(2, 6, 16))


def test_meta_device_costs_nothing_and_loads_by_assignment():
    source = elsm.S4(6, d_state=4, l_max=16, use_pointwise=True)
    with torch.device("meta"):
        s4 = elsm.S4(6, d_state=4, l_max=16, use_pointwise=True)
    assert all(p.is_meta for p in s4.state_dict().values())
    x = torch.randn(2, 6, 16)
    for _ in range(2):  # before and after the correction
        s4.load_state_dict(source.state_dict(), assign=True)
        assert torch.equal(s4(x), source(x))

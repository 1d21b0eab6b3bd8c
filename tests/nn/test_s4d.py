"""The one-file S4D layer: its formula, keys, draws and layouts."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from torch.nn import functional as F

from ecgcore import nn
from ecgcore.testing.compare import relative_error


def written_out(state, u):
    """The layer from its state dict, ``(B, H, L)``, in the state's precision."""
    L = u.shape[-1]
    A = torch.complex(-torch.exp(state["kernel.log_A_real"]), state["kernel.A_imag"])
    d = A * torch.exp(state["kernel.log_dt"])[:, None]
    C = torch.view_as_complex(state["kernel.C"]) * (torch.exp(d) - 1) / A
    time = torch.arange(L, dtype=u.dtype)
    kernel = 2 * torch.einsum("hn,hnl->hl", C, torch.exp(d[..., None] * time)).real
    y = torch.stack([(kernel[:, : t + 1].flip(-1) * u[..., : t + 1]).sum(-1) for t in range(L)], -1)
    y = F.gelu(y + state["D"][:, None] * u)
    y = F.conv1d(y, state["output_linear.0.weight"], state["output_linear.0.bias"])
    value, gate = y.chunk(2, dim=1)
    return value * torch.sigmoid(gate)


@pytest.mark.parametrize("L", [1, 2, 7, 40])
def test_output_and_gradients_are_those_of_the_formula(L):
    layer = nn.S4D(3, d_state=10).double()
    u = torch.randn(2, 3, L, dtype=torch.float64, requires_grad=True)
    y, state = layer(u)
    assert state is None
    leaves = {k: v.detach().clone().requires_grad_() for k, v in layer.state_dict().items()}
    expected = written_out(leaves, u)
    assert relative_error(y, expected) < 1e-12
    g = torch.randn_like(y)
    found = torch.autograd.grad(y, [*layer.parameters(), u], g)
    truth = torch.autograd.grad(expected, [*(leaves[k] for k, _ in layer.named_parameters()), u], g)
    for a, b in zip(found, truth, strict=True):
        assert relative_error(a, b) < 1e-10 or b.abs().max() < 1e-12


def test_single_precision_is_near_double():
    layer, u = nn.S4D(8, d_state=64), torch.randn(2, 8, 1000)
    state = {k: v.double() for k, v in layer.state_dict().items()}
    assert relative_error(layer(u)[0], written_out(state, u.double())) < 1e-5


def test_keys_shapes_and_seeded_draws():
    torch.manual_seed(3)
    layer = nn.S4D(6, d_state=8, dt_min=0.01, dt_max=0.5)
    torch.manual_seed(3)
    D = torch.randn(6)
    log_dt = torch.rand(6) * (math.log(0.5) - math.log(0.01)) + math.log(0.01)
    C = torch.view_as_real(torch.randn(6, 4, dtype=torch.complex64))
    conv = torch.nn.Conv1d(6, 12, 1)
    expected = {
        "D": D,
        "kernel.C": C,
        "kernel.log_dt": log_dt,
        "kernel.log_A_real": torch.full((6, 4), 0.5).log(),
        "kernel.A_imag": math.pi * torch.arange(4.0).repeat(6, 1),
        "output_linear.0.weight": conv.weight.detach(),
        "output_linear.0.bias": conv.bias.detach(),
    }
    state = layer.state_dict()
    assert state.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(state[key], value), key
    other = nn.S4D(6, d_state=8)
    other.load_state_dict(expected)
    u = torch.randn(1, 6, 30)
    assert torch.equal(other(u)[0], layer(u)[0])


@pytest.mark.parametrize("lr", [None, 0.0, 0.001])
def test_what_trains_and_what_is_noted(lr):
    layer = nn.S4D(4, d_state=4, lr=lr)
    own = ("kernel.log_dt", "kernel.log_A_real", "kernel.A_imag")
    parameters = dict(layer.named_parameters())
    assert all((name in parameters) == (lr != 0.0) for name in own)
    if lr != 0.0:
        expected = {"weight_decay": 0.0} | ({} if lr is None else {"lr": lr})
        assert all(parameters[name]._optim == expected for name in own)
    assert not hasattr(parameters["kernel.C"], "_optim")
    assert set(layer.state_dict()) >= set(own)


def test_the_other_layout_and_dropout_of_whole_features():
    layer = nn.S4D(4, d_state=4)
    other = nn.S4D(4, d_state=4, transposed=False)
    other.load_state_dict(layer.state_dict())
    u = torch.randn(2, 4, 9)
    assert torch.allclose(other(u.mT)[0].mT, layer(u)[0], atol=1e-6)

    dropped = nn.S4D(64, d_state=4, dropout=0.5)
    seen = []
    dropped.output_linear.register_forward_pre_hook(lambda module, x: seen.append(x[0]))
    dropped(torch.randn(1, 64, 9))
    gone = (seen[0] == 0).all(-1)
    assert torch.equal(gone, (seen[0] == 0).any(-1))
    assert 10 < gone.sum() < 54


def test_the_spectrum_is_remembered_until_a_parameter_changes():
    layer, u = nn.S4D(4, d_state=4).eval(), torch.randn(2, 4, 9)
    with torch.no_grad():
        before = layer(u)[0]
        assert layer.spectrum(9) is layer.spectrum(9)
        layer.kernel.log_dt.add_(0.5)
        assert not torch.allclose(layer(u)[0], before)
        layer.kernel.log_dt.sub_(0.5)
        assert torch.allclose(layer(u)[0], before, atol=1e-5)
    again = pickle.loads(pickle.dumps(layer))
    assert torch.equal(again(u)[0].detach(), layer(u)[0].detach())


def test_half_precision_signals_and_compilation():
    layer, u = nn.S4D(4, d_state=4), torch.randn(2, 4, 9)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert relative_error(compiled(u)[0], layer(u)[0]) < 1e-5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = layer(u.bfloat16())[0]
    assert relative_error(half.float(), layer(u)[0]) < 2e-2
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_model": 0}, "d_model must be at least 1, got 0"),
        ({"d_state": 5}, "d_state must be even and at least 2, got 5"),
        ({"dt_min": 0.0}, "0 < dt_min <= dt_max expected, got 0.0 and 0.1"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_errors_of_construction(options, message):
    with pytest.raises(ValueError, match=message):
        nn.S4D(**({"d_model": 4} | options))


def test_wrong_input_is_an_error():
    with pytest.raises(ValueError, match=r"u must have shape \(B, 4, L\) with L >= 1, got \(2, 5"):
        nn.S4D(4, d_state=4)(torch.randn(2, 5, 9))

"""The half sum of the references' pure-torch fallback, for models that were trained with it."""

from __future__ import annotations

import pytest
import torch

import ecgcore
from ecgcore import models, nn
from ecgcore.nn import HippoSSKernel, SSKernelNPLR, half_sum
from ecgcore.testing.compare import relative_error
from support import recorded


def recorded_kernel(**switches) -> SSKernelNPLR:
    r = recorded("s4nplr__compat_halfsum_L64")
    H, N, L = (r.config[k] for k in "HNL")
    kernel = HippoSSKernel(H, N=N, L=L, **switches).kernel
    kernel.load_state_dict(r.under("state"))
    return kernel


def parameters(rank: int = 2) -> dict[str, torch.Tensor]:
    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.complex128)

    return {
        "A": torch.complex(-0.2 - torch.rand(3, 4).double(), 5 * torch.randn(3, 4).double()),
        "B": normal(2, 1, 4),
        "C": normal(2, 3, 4),
        "P": 0.4 * normal(rank, 3, 4),
        "dt": 0.05 + 0.1 * torch.rand(3, dtype=torch.float64),
    }


@pytest.mark.parametrize("backend", ["native", "keops", "reference"])
def test_the_recorded_half_kernel(backend):
    r = recorded("s4nplr__compat_halfsum_L64")
    with ecgcore.backend(backend):
        K = recorded_kernel(conjugate_pairs=False)()[0]
    assert relative_error(K, r["out/K_half"]) <= 1e-5
    exact = recorded_kernel(conjugate_pairs=False, exact_nodes=True)
    assert relative_error(exact()[0], r["out64/K_half"]) <= 1e-5
    assert relative_error(exact.double()()[0], r["out64/K_half"]) <= 1e-10
    assert relative_error(recorded_kernel()()[0], r["out/K_sym"]) <= 1e-5


@pytest.mark.parametrize("L", [1, 2, 7, 16])
@pytest.mark.parametrize("rank", [1, 2])
def test_it_is_the_resolvent_of_the_kept_half(rank, L):
    """Every node, Nyquist among them, against dense matrices of the kept modes alone."""
    p = parameters(rank)
    A = torch.diag_embed(p["A"]) - torch.einsum("rhn,rhm->hnm", p["P"], p["P"].conj())
    omega = torch.exp(-2j * torch.pi * torch.arange(L // 2 + 1, dtype=torch.float64) / L)
    half = p["dt"][:, None, None] / 2 * A
    eye = torch.eye(4)
    B = torch.linalg.solve(eye - half, p["dt"][:, None, None] * p["B"].transpose(0, 1).mT)
    step = torch.linalg.solve(eye - half, eye + half)
    states = torch.linalg.solve(
        eye - omega[:, None, None, None] * step, B.expand(L // 2 + 1, 3, 4, 2)
    )
    truth = torch.einsum("chn,fhns->schf", p["C"], states)
    assert relative_error(half_sum.nplr_spectrum(**p, L=L), truth) < 1e-12
    assert relative_error(half_sum.nplr_kernel(**p, L=L), torch.fft.irfft(truth, n=L)) < 1e-12


def test_gradients_match_finite_differences():
    p = parameters()
    leaves = [x.requires_grad_() for x in p.values()]
    assert torch.autograd.gradcheck(
        lambda *x: half_sum.nplr_kernel(*x, 6), leaves, atol=1e-6, rtol=1e-4
    )


@pytest.mark.parametrize("S4", [nn.S4, nn.elsm.S4])
def test_it_is_another_kernel_through_every_layer(S4):
    """Modules of neither generation may mix the two up, the remembered spectrum included."""
    layers = []
    for pairs in (True, False):
        torch.manual_seed(0)
        layers.append(S4(4, d_state=8, l_max=20, conjugate_pairs=pairs).eval())
    u = torch.randn(2, 4, 20)
    with torch.no_grad():
        right, wrong = (layer(u)[0] for layer in layers)
        assert relative_error(wrong, right) > 1e-3
        layers[0].kernel.kernel.conjugate_pairs = False
        assert torch.equal(layers[0](u)[0], wrong)


def test_a_config_may_ask_for_it():
    section = {"in_channels": 2, "out_channels": 2, "res_channels": 4, "skip_channels": 4}
    section |= {"num_res_layers": 1, "s4_lmax": 16, "s4_d_state": 4, "conjugate_pairs": False}
    model = models.from_config({"model_name": "SSSDECG", "model": section})
    assert model.config["model"]["conjugate_pairs"] is False
    kernels = [m for m in model.modules() if isinstance(m, SSKernelNPLR)]
    assert [k.conjugate_pairs for k in kernels] == [False, False]

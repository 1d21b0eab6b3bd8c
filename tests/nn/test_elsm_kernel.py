"""The second generation's kernels as functions: dense simulation, lengths, rates, options."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from ecgcore.nn import elsm
from ecgcore.testing.compare import relative_error
from s4_checks import response


def double_kernel(**options) -> elsm.SSKernel:
    """A kernel all in double precision, with low-rank terms and steps that matter."""
    options = {"H": 4, "N": 8, "L": 20, "channels": 2, "dt_min": 0.01} | options
    return elsm.SSKernel(**options).double()


def wide(x):
    return torch.cat([x, x.conj()], -1)


def discrete_nplr(kernel, rate=1.0):
    """Complex ``Abar`` and ``Bbar`` on the conjugate-extended state, by inverses."""
    w, B, P, Q = (t.detach() for t in kernel.matrices())
    A = torch.diag_embed(wide(w)) - torch.einsum("rhn,rhm->hnm", wide(P), wide(Q))
    A, B = A.expand(kernel.H, -1, -1), wide(B[0]).expand(kernel.H, -1)
    dt = torch.exp(kernel.log_dt.detach())[:, None, None] * rate
    eye = torch.eye(A.shape[-1], dtype=A.dtype)
    backward = torch.linalg.inv(eye - dt / 2 * A)
    return backward @ (eye + dt / 2 * A), (backward @ (dt * B[..., None]))[..., 0]


def discrete_diag(kernel, rate=1.0):
    A, B = (t.detach() for t in kernel.matrices())
    A, B = A.expand(kernel.H, -1), B[0].expand(kernel.H, -1)
    dt = torch.exp(kernel.log_dt.detach())[:, None] * rate
    if kernel.disc == "zoh":
        Abar, Bbar = torch.exp(dt * A), B * (torch.exp(dt * A) - 1) / A
    else:
        Abar, Bbar = (1 + dt * A / 2) / (1 - dt * A / 2), B * dt / (1 - dt * A / 2)
    return torch.diag_embed(wide(Abar)), wide(Bbar)


def plain_output(kernel):
    """``C`` before any correction, on the conjugate-extended state."""
    return wide(torch.view_as_complex(kernel.C.detach().clone()))


OPTIONS = [
    {},
    {"L": 21},
    {"L": 1},
    {"L": None},
    {"L": 0},
    {"n_ssm": 1},
    {"n_ssm": 2},
    {"measure": "legt", "rank": 2},
    {"measure": "legs", "rank": 3},
    {"measure": "fout"},
    {"measure": "foud", "n_ssm": 1},
    {"measure": "legsd"},
    {"measure": "hippo", "n_ssm": 2},
    {"measure": "all"},
    {"measure": "diag-inv", "rank": 2},
    {"real_type": "none"},
    {"real_type": "relu"},
    {"real_type": "sigmoid"},
    {"real_type": "softplus"},
    {"deterministic": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_nplr_is_the_impulse_response_of_the_state_space(options):
    module = double_kernel(**options)
    kernel = module.kernel
    L = options.get("L", 20) or 17
    C = plain_output(kernel)
    state = torch.randn(3, 4, 4, dtype=torch.complex128)
    K, K_state = module(state=state, L=L)
    assert K.shape == (2, 4, L)
    assert K_state.shape == (3, 2, 4, L)
    assert kernel.internal_length == kernel.L == L
    Abar, Bbar = discrete_nplr(kernel)
    limit = 1e-10 if options.get("measure") != "fout" else 1e-8
    assert relative_error(K, response(Abar, Bbar, C, L)) <= limit
    for s, given in zip(state, K_state, strict=True):
        first = torch.einsum("hnm,hm->hn", Abar, wide(s))
        assert relative_error(given, response(Abar, first, C, L)) <= limit
    again, none = module(L=L)
    assert none is None
    assert relative_error(again, K) <= 1e-12


@pytest.mark.parametrize("disc", ["zoh", "bilinear"])
@pytest.mark.parametrize(
    "options",
    [{}, {"n_ssm": 1}, {"n_ssm": 2}, {"real_type": "relu"}, {"measure": "legsd"}],
    ids=str,
)
@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_diag_is_the_impulse_response_of_the_state_space(disc, options, rate):
    options = {"measure": "diag-lin", "measure_args": {"random_B": True}} | options
    if options["measure"] == "legsd":
        del options["measure_args"]
    module = double_kernel(mode="diag", disc=disc, **options)
    kernel = module.kernel
    state = torch.randn(3, 4, 4, dtype=torch.complex128)
    K, K_state = module(state=state, L=33, rate=rate)
    C = plain_output(kernel)
    Abar, Bbar = discrete_diag(kernel, rate)
    assert relative_error(K, response(Abar, Bbar, C, 33)) <= 1e-12
    for s, given in zip(state, K_state, strict=True):
        first = torch.einsum("hnm,hm->hn", Abar, wide(s))
        assert relative_error(given, response(Abar, first, C, 33)) <= 1e-12
    assert module(rate=rate)[0].shape[-1] == round(20 / rate)


def test_copies_are_tiled():
    """Features h and h + n_ssm have one system: with equal C and dt, one kernel."""
    for mode, measure in (("nplr", "legs"), ("diag", "diag-random")):
        module = double_kernel(H=6, n_ssm=3, mode=mode, measure=measure)
        with torch.no_grad():
            module.kernel.C[:] = module.kernel.C[:, :1]
            module.kernel.log_dt.fill_(-3)
            if mode == "nplr":
                module.kernel.w_imag.mul_(torch.rand(3, 1))
        K = module(L=20)[0]
        assert torch.equal(K[:, :3], K[:, 3:])
        assert relative_error(K[:, 0], K[:, 1]) > 1e-3


# Lengths.


def test_correction_happens_once_and_in_place():
    module = double_kernel()
    C = module.kernel.C
    before = C.detach().clone()
    assert module.kernel.internal_length == 0
    first = module(L=7)[0]
    assert module.kernel.C is C
    after = C.detach().clone()
    assert not torch.equal(before, after)
    assert torch.equal(module(L=7)[0], first)
    assert torch.equal(C, after)
    assert module.state_dict()["kernel.L"].dtype == torch.int64
    assert module.state_dict()["kernel.L"] == 20


@pytest.mark.parametrize("forwards_before", [0, 1])
@pytest.mark.parametrize("forwards_between", [0, 1])
@pytest.mark.parametrize("assign", [False, True])
def test_state_dicts_from_before_and_after_load_alike(forwards_before, forwards_between, assign):
    source, target = double_kernel(), double_kernel()
    if forwards_before:
        source()
    if forwards_between:
        target()  # a target that was used must forget that it was corrected
    stored = copy.deepcopy(source.state_dict())
    target.load_state_dict(stored, assign=assign)
    assert target.kernel.internal_length == 20 * forwards_before
    assert torch.equal(target()[0], source()[0])
    assert target.kernel.internal_length == 20
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value), key


def test_a_buffer_changed_by_hand_counts():
    module = double_kernel()
    module()
    with torch.no_grad():
        module.kernel.L.fill_(40)
    assert module.kernel.internal_length == 40
    module.kernel.L = torch.tensor(30)
    assert module.kernel.internal_length == 30


def test_the_buffer_is_read_once(monkeypatch):
    module = double_kernel()
    module()
    reads = []
    item = torch.Tensor.__int__
    monkeypatch.setattr(torch.Tensor, "__int__", lambda self: reads.append(1) or item(self))
    for _ in range(3):
        module(L=7)
    assert not reads


@pytest.mark.parametrize("L", [21, 40, 41, 90])
def test_more_samples_double_the_internal_length_for_good(L):
    module = double_kernel()
    C = plain_output(module.kernel)
    short = module()[0]
    K = module(L=L)[0]
    assert 20 * 2 ** math.ceil(math.log2(L / 20)) == module.kernel.L
    assert relative_error(K[..., :20], short) <= 1e-10
    assert relative_error(K, response(*discrete_nplr(module.kernel), C, L)) <= 1e-10


@pytest.mark.parametrize(("rate", "samples"), [(2.0, 10), (0.5, 40), (0.8, 25), (3.0, 7)])
def test_rate_stretches_the_step(rate, samples):
    module = double_kernel()
    module()
    K = module(rate=rate)[0]
    assert K.shape[-1] == samples
    # C is recovered from the corrected one with the power of the transform's length.
    Abar, Bbar = discrete_nplr(module.kernel, rate)
    C = wide(torch.view_as_complex(module.kernel.C.detach()))
    truncated = torch.eye(8, dtype=Abar.dtype) - torch.linalg.matrix_power(Abar, samples)
    C = torch.einsum("chn,hnm->chm", C, torch.linalg.inv(truncated))
    assert relative_error(K, response(Abar, Bbar, C, samples)) <= 1e-10
    assert module.kernel.L == 20


@pytest.mark.parametrize("rate", [0.3, 0.4, 0.7, 1.3, 2.7])
@pytest.mark.parametrize("L", [1, 7, 26, 50])
def test_every_sample_asked_for_is_returned(rate, L):
    assert double_kernel(L=10)(rate=rate, L=L)[0].shape[-1] == L


def test_rounded_nodes_move_the_kernel():
    torch.manual_seed(0)
    exact = elsm.SSKernel(2, N=64, L=1000)()[0]
    torch.manual_seed(0)
    rounded = elsm.SSKernel(2, N=64, L=1000, exact_nodes=False)()[0]
    assert 1e-6 < relative_error(rounded, exact) < 1e-3


def test_rounded_nodes_of_neighbouring_lengths_are_not_mixed_up():
    """Lengths 2m and 2m+1 have as many nodes; the reference keeps the first one's."""
    module = double_kernel(exact_nodes=False)
    module(rate=1.0)
    even, odd = module(rate=20 / 10)[0], module(rate=20 / 11)[0]
    assert (even.shape[-1], odd.shape[-1]) == (10, 11)
    exact = double_kernel()
    exact.load_state_dict(module.state_dict())
    assert relative_error(even, exact(rate=20 / 10)[0]) <= 1e-9
    assert relative_error(odd, exact(rate=20 / 11)[0]) <= 1e-9


# Options.


@pytest.mark.parametrize("mode", ["nplr", "diag"])
def test_bandlimit_leaves_out_fast_modes(mode):
    options = {"mode": mode, "measure": "diag-lin", "n_ssm": 1}
    module = double_kernel(**options)
    kernel = module.kernel
    A = kernel.matrices()[0].detach()
    frequency = A.imag.abs() * torch.exp(kernel.log_dt.detach())[:, None] / (2 * math.pi)
    limit = 2 * float(frequency.median())
    slow = frequency < limit / 2
    assert 0 < slow.sum() < slow.numel()
    module()
    limited = double_kernel(**options, bandlimit=limit)
    limited.load_state_dict(module.state_dict())
    full = limited(rate=2.0)[0]
    with torch.no_grad():
        kernel.C.mul_(slow[None, :, :, None])
    assert relative_error(full, module(rate=2.0)[0]) <= 1e-12


@pytest.mark.parametrize("real_type", ["exp", "none", "relu", "sigmoid", "softplus"])
@pytest.mark.parametrize("mode", ["nplr", "diag"])
def test_real_types_start_from_the_same_state_matrix(mode, real_type):
    module = elsm.SSKernel(2, N=8, L=8, measure="diag-lin", mode=mode, real_type=real_type)
    A = module.kernel.matrices()[0]
    shift = 1e-4 if (mode, real_type) == ("diag", "relu") else 0.0
    torch.testing.assert_close(A.real, torch.full((2, 4), -0.5 - shift), rtol=1e-6, atol=1e-6)


def test_real_parts_start_below_zero():
    assert (elsm.SSKernel(2, N=8, measure="legt", rank=2).kernel.matrices()[0].real < -9e-4).all()
    module = elsm.SSKernel(2, N=8, measure="fout", real_tolerance=0.25)
    torch.testing.assert_close(module.kernel.matrices()[0].real, torch.full((2, 4), -0.25))
    diag = elsm.SSKernel(2, N=8, measure="diag-lin", mode="diag", measure_args={"real_scale": 0.0})
    torch.testing.assert_close(diag.kernel.matrices()[0].real, torch.full((2, 4), -1e-4))

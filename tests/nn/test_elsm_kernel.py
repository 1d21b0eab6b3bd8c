"""The second generation's kernels: dense simulation, lengths, options, learning rates, errors."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from ecgcore.nn import elsm
from ecgcore.testing.compare import relative_error
from s4_checks import copies, response


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


NPLR_GROUPS = {"log_dt": "dt", "B": "B", "P": "A", "inv_w_real": "A", "w_imag": "A"}
DIAG_GROUPS = {"log_dt": "dt", "B": "B", "inv_A_real": "A", "A_imag": "A"}


@pytest.mark.parametrize(
    "lr", [None, 0.01, 0.0, {"dt": 0.0, "A": 0.02}, {"B": 0.0}, {"dt": None, "B": 0.5}], ids=str
)
@pytest.mark.parametrize("mode", ["nplr", "diag"])
def test_what_trains_and_how(mode, lr):
    kernel = elsm.SSKernel(2, N=4, L=8, lr=lr, mode=mode, measure="diag-lin").kernel
    groups = NPLR_GROUPS if mode == "nplr" else DIAG_GROUPS
    parameters, buffers = dict(kernel.named_parameters()), dict(kernel.named_buffers())
    assert not hasattr(parameters.pop("C"), "_s4_optimizer")
    for name, group in groups.items():
        rate = lr.get(group) if isinstance(lr, dict) else lr
        if rate == 0.0:
            assert name in buffers
            continue
        settings = {"weight_decay": 0.0} | ({} if rate is None else {"lr": rate})
        assert parameters.pop(name)._s4_optimizer == settings
    assert not parameters
    assert set(kernel.state_dict()) == {"C", *groups} | ({"L"} if mode == "nplr" else set())
    kernel(L=8)[0].sum().backward()
    assert all(p.grad is not None for p in kernel.parameters())


def test_tensors_are_materialised():
    for mode in ("nplr", "diag"):
        kernel = elsm.SSKernel(5, N=4, L=8, mode=mode, measure="diag-inv").kernel
        assert all(value.is_contiguous() for value in kernel.state_dict().values())
        kernel.load_state_dict(kernel.state_dict())


def test_unused_state_matrix_of_the_reference_is_dropped():
    kernel = elsm.SSKernel(2, N=4, L=8, mode="diag", measure="diag-lin").kernel
    assert "A" not in dict(kernel.named_parameters())
    stored = dict(kernel.state_dict(), A=torch.zeros(2, 2, 2))
    kernel.load_state_dict(stored)
    assert "A" in stored  # the caller's dict is left alone
    with pytest.raises(RuntimeError, match="Unexpected key"):
        kernel.load_state_dict(dict(stored, extra=torch.zeros(1)))


def test_deterministic_start():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one = elsm.SSKernel(5, N=8, L=16, n_ssm=1, channels=2, deterministic=True, dt_min=0.01)
    assert torch.equal(torch.get_rng_state(), before)
    steps = torch.exp(one.kernel.log_dt)
    assert relative_error(steps, torch.logspace(-2, -1, 5)) <= 1e-6
    # C reads the first state of the real system: K is that state's response to an impulse.
    from ecgcore.nn import hippo_elsm

    A, B = (torch.from_numpy(x) for x in hippo_elsm.transition("legs", 8))
    K = one.double()()[0]
    for h, dt in enumerate(steps.double()):
        eye = torch.eye(8, dtype=torch.float64)
        backward = torch.linalg.inv(eye - dt / 2 * A)
        x = backward @ (dt * B)
        for sample in range(16):
            assert abs(K[1, h, sample] - x[0]) <= 1e-5 * K.abs().max()
            x = backward @ (eye + dt / 2 * A) @ x
    theirs = elsm.SSKernel(5, N=8, L=16, deterministic="reference", dt_min=0.01)
    assert relative_error(theirs.kernel.log_dt, torch.logspace(-2, -1, 5)) <= 1e-6
    diag = elsm.SSKernel(
        3, N=8, mode="diag", measure="diag-lin", deterministic=True, measure_args={"random_B": True}
    )
    assert diag(L=5)[0].shape == (1, 3, 5)


def test_constructors_from_tensors():
    torch.manual_seed(0)
    w = torch.complex(-torch.rand(2, 4), torch.randn(2, 4))
    P, B = torch.randn(2, 2, 4, dtype=torch.complex64), torch.randn(2, 4, dtype=torch.complex64)
    C, log_dt = torch.randn(2, 6, 4, dtype=torch.complex64), torch.zeros(6) - 3
    kernel = elsm.SSKernelNPLR(w=w, P=P, B=B, C=C, log_dt=log_dt, L=10)
    assert torch.equal(plain_output(kernel)[..., :4], C.conj())
    assert kernel()[0].shape == (2, 6, 10)
    diag = elsm.SSKernelDiag(A=w, B=B, C=C, log_dt=log_dt, L=10, disc="zoh")
    assert diag()[0].shape == (2, 6, 10)
    with pytest.raises(ValueError, match=r"SSKernelNPLR: B must fit \(1, 2, 4\), got \(3, 5\)"):
        elsm.SSKernelNPLR(w=w, P=P, B=torch.zeros(3, 5) * 1j, C=C, log_dt=log_dt)
    with pytest.raises(ValueError, match=r"SSKernelDiag: B must fit \(2, 4\), got \(3, 4\)"):
        elsm.SSKernelDiag(A=w, B=torch.zeros(3, 4) * 1j, C=C, log_dt=log_dt)
    with pytest.raises(ValueError, match=r"\(n_ssm, 4\) with n_ssm a divisor of H = 6, got \(4, 4"):
        elsm.SSKernelDiag(A=torch.cat([w, w]), B=B, C=C, log_dt=log_dt)
    with pytest.raises(ValueError, match="C must have shape"):
        elsm.SSKernelDiag(A=w, B=B, C=C[0], log_dt=log_dt)


def test_copies_and_pickles_keep_the_length():
    module = double_kernel()
    K = module()[0]
    for other in copies(module):
        assert other.kernel.internal_length == 20
        assert torch.equal(other()[0], K)
    fresh = copy.deepcopy(double_kernel())
    assert fresh.kernel.internal_length == 0


def test_modes_of_torch():
    with torch.inference_mode():
        inside = double_kernel()
        first = inside()[0]
        assert torch.equal(inside()[0], first)
    with torch.no_grad():  # its tensors may be changed in their own mode only
        assert inside(L=40)[0].shape[-1] == 40
    module = double_kernel()
    with torch.inference_mode():
        module()
    module()[0].sum().backward()
    assert module.kernel.C.grad is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"L": 0}, "SSKernelNPLR: L must be at least 1, got 0"),
        ({"rate": 0.0}, "SSKernelNPLR: rate must be a positive number, got 0.0"),
        ({"rate": float("nan")}, "rate must be a positive number, got nan"),
        ({"state": torch.zeros(1, 4, 5) * 1j}, r"SSKernelNPLR: state must be complex \(S, 4, 4\)"),
        ({"state": torch.zeros(1, 4, 4)}, r"state must be complex \(S, 4, 4\)"),
    ],
)
def test_errors_of_forward(arguments, message):
    with pytest.raises(ValueError, match=message):
        double_kernel()(**arguments)
    with pytest.raises(ValueError, match=message.replace("NPLR", "Diag")):
        double_kernel(mode="diag", measure="diag-lin")(**arguments)


def test_errors_of_forward_without_a_length_or_with_a_state():
    for mode in ("nplr", "diag"):
        with pytest.raises(ValueError, match="L must be given where the constructor had none"):
            double_kernel(mode=mode, measure="diag-lin", L=None)()
    dss = double_kernel(mode="diag", measure="diag-lin", disc="dss")
    with pytest.raises(ValueError, match="state is not defined for disc='dss'"):
        dss(state=torch.zeros(1, 4, 4, dtype=torch.complex128))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"odd_length": "right"}, "odd_length must be 'exact' or 'reference', got 'right'"),
        ({"H": 0}, "SSKernel: H must be at least 1, got 0"),
        ({"channels": 0}, "SSKernel: channels must be at least 1, got 0"),
        ({"rank": 0}, "SSKernel: rank must be at least 1, got 0"),
        ({"L": -1}, "SSKernelNPLR: L must be at least 1, or 0 or None, got -1"),
        ({"n_ssm": 3}, "SSKernel: n_ssm must be a divisor of H = 4, got 3"),
        ({"n_ssm": 0}, "SSKernel: n_ssm must be a divisor of H = 4, got 0"),
        ({"dt_min": 0.0}, "0 < dt_min <= dt_max expected"),
        ({"mode": "dense"}, "mode must be 'nplr' or 'diag', got 'dense'"),
        ({"deterministic": "yes"}, "deterministic must be False, True or 'reference', got 'yes'"),
        ({"lr": {"C": 0.1}}, "SSKernelNPLR: lr has keys dt, A, B, got C"),
        ({"real_type": "square"}, "real_type must be one of exp, none, .* got 'square'"),
        (
            {"real_type": "sigmoid", "measure": "diag-real"},
            "'sigmoid' cannot hold a real part of -2",
        ),
        ({"real_tolerance": 0.0}, "real_tolerance must be positive, got 0.0"),
        ({"bandlimit": 0.0}, "bandlimit must be positive or None, got 0.0"),
        ({"measure": "legt"}, "needs rank >= 2"),
        ({"mode": "diag", "measure": "diag-lin", "disc": "euler"}, "disc must be one of bilinear"),
        ({"mode": "diag", "measure": "diag-lin", "lr": {"P": 0.1}}, "SSKernelDiag: lr has keys dt"),
    ],
)
def test_errors_of_construction(options, message):
    with pytest.raises(ValueError, match=message):
        elsm.SSKernel(**({"H": 4, "N": 4, "L": 8} | options))


def test_a_low_rank_part_that_is_left_out_is_said_to_be():
    with pytest.warns(UserWarning, match="leaves out the low-rank part of measure 'legs'"):
        elsm.SSKernel(2, N=4, mode="diag")


@pytest.mark.parametrize("mode", ["nplr", "diag"])
def test_half_precision_parameters_are_refused(mode):
    module = elsm.SSKernel(2, N=4, L=8, mode=mode, measure="diag-lin").bfloat16()
    with pytest.raises(TypeError, match="must stay float32 or float64, got bfloat16"):
        module(L=8)

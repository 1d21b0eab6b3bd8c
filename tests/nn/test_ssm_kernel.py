"""The NPLR kernel against dense state-space simulation; its options, loading and errors."""

from __future__ import annotations

import math

import pytest
import torch

from ecgcore.nn import HippoSSKernel, SSKernelNPLR
from ecgcore.ops import discrete
from ecgcore.testing.compare import relative_error
from s4_checks import response


def double_kernel(**options) -> SSKernelNPLR:
    """A kernel all in double precision, with low-rank terms and steps that matter."""
    options = {"H": 3, "N": 8, "L": 20, "channels": 2, "dt_min": 0.01} | options
    return HippoSSKernel(**options, precision=2, exact_nodes=True).kernel


def dense(kernel: SSKernelNPLR, length: int | None = None):
    """Complex ``Abar``, ``Bbar``, plain ``C`` on the conjugate-extended state, by inverses."""
    w, B, P, Q = (t.detach() for t in kernel.matrices())
    C = torch.view_as_complex(kernel.C.detach())

    def wide(x):
        return torch.cat([x, x.conj()], -1)

    A = torch.diag_embed(wide(w)) - torch.einsum("rhn,rhm->hnm", wide(P), wide(Q))
    A = A.expand(kernel.H, -1, -1)
    dt = torch.exp(kernel.log_dt.detach())[:, None, None]
    eye = torch.eye(A.shape[-1], dtype=A.dtype)
    backward = torch.linalg.inv(eye - dt / 2 * A)
    Abar = backward @ (eye + dt / 2 * A)
    Bbar = (backward @ (dt * wide(B[0]).expand(kernel.H, -1)[..., None]))[..., 0]
    truncated = eye - torch.linalg.matrix_power(Abar, length or kernel.L)
    C = torch.einsum("chn,hnm->chm", wide(C), torch.linalg.inv(truncated))
    return Abar, Bbar, C


OPTIONS = [
    {},
    {"L": 21},
    {"L": 1},
    {"L": 2},
    {"measure": "legt", "rank": 2},
    {"measure": "fourier", "rank": 2},
    {"measure": "lagt", "rank": 3},
    {"measure": "random", "rank": 2},
    {"tie_state": True},
    {"hurwitz": True},
    {"hurwitz": True, "tie_state": True, "rank": 2},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_is_the_impulse_response_of_the_state_space(options):
    kernel = double_kernel(**options)
    K, K_state = kernel()
    assert K_state is None
    assert K.shape == (2, 3, kernel.L)
    Abar, Bbar, C = dense(kernel)
    assert relative_error(K, response(Abar, Bbar, C, kernel.L)) <= 1e-10


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_answers_an_initial_state(options):
    kernel = double_kernel(**options)
    state = torch.randn(4, 3, 4, dtype=torch.complex128)
    K, K_state = kernel(state=state, L=kernel.L)
    assert relative_error(K, kernel()[0]) <= 1e-12
    Abar, _, C = dense(kernel)
    for s, given in zip(state, K_state, strict=True):
        first = torch.einsum("hnm,hm->hn", Abar, torch.cat([s, s.conj()], -1))
        assert relative_error(given, response(Abar, first, C, kernel.L)) <= 1e-10


def test_a_shorter_kernel_is_the_first_part():
    kernel = double_kernel()
    assert torch.equal(kernel(L=7)[0], kernel()[0][..., :7])


@pytest.mark.parametrize("L", [21, 40, 41, 90])
def test_more_samples_double_the_internal_length_for_good(L):
    kernel = double_kernel()
    short = kernel()[0]
    K = kernel(L=L)[0]
    assert 20 * 2 ** math.ceil(math.log2(L / 20)) == kernel.L
    assert kernel.omega.shape == kernel.z.shape == (kernel.L // 2 + 1, 2)
    assert relative_error(K[..., :20], short) <= 1e-10
    Abar, Bbar, C = dense(kernel)
    assert relative_error(K, response(Abar, Bbar, C, L)) <= 1e-10


@pytest.mark.parametrize(("rate", "samples"), [(2.0, 10), (0.5, 40), (0.8, 25), (3.0, 6)])
def test_rate_stretches_the_step(rate, samples):
    kernel = double_kernel()
    K = kernel(rate=rate)[0]
    assert K.shape[-1] == samples
    with torch.no_grad():
        kernel.log_dt += math.log(rate)
    Abar, Bbar, C = dense(kernel, length=samples)
    assert relative_error(K, response(Abar, Bbar, C, samples)) <= 1e-10
    assert kernel.L == 20


@pytest.mark.parametrize("L", [7, 20, 33, 49])
def test_resample_covers_the_same_stretch_with_any_number_of_samples(L):
    hippo = HippoSSKernel(2, N=8, L=20, resample=True, precision=2)
    K = hippo(L=L)
    assert K.shape == (1, 2, L)
    assert hippo.kernel.L == 20  # never doubled
    kernel = hippo.kernel
    with torch.no_grad():
        kernel.log_dt += math.log(20 / L)
    Abar, Bbar, C = dense(kernel, length=L)
    assert relative_error(K, response(Abar, Bbar, C, L)) <= 1e-10


def test_odd_length_of_the_reference_is_one_short():
    torch.manual_seed(1)
    right = HippoSSKernel(2, N=8, L=37)()
    torch.manual_seed(1)
    theirs = HippoSSKernel(2, N=8, L=37, odd_length="reference")()
    assert right.shape[-1] == 37
    assert theirs.shape[-1] == 36
    assert relative_error(theirs, right[..., :36]) > 1e-3


def test_rows_times_power_is_repeated_multiplication():
    C = torch.randn(2, 3, 4, dtype=torch.complex128)
    A = torch.randn(3, 4, dtype=torch.complex128) - 1
    P, Q = torch.randn(2, 2, 3, 4, dtype=torch.complex128)
    step = discrete.bilinear(discrete.state_matrix(A, P, Q), torch.rand(3) / 10)
    state = torch.randn(3, 8, dtype=torch.float64)

    def read(C):
        return 2 * (C * torch.complex(state[:, :4], state[:, 4:])).sum(-1).real

    def moved(k):
        return torch.linalg.matrix_power(step, k) @ state[..., None]

    for k in (0, 1, 2, 7, 12):
        x = moved(k)[..., 0]
        expected = 2 * (C * torch.complex(x[:, :4], x[:, 4:])).sum(-1).real
        assert relative_error(read(discrete.rows_times_power(C, step, k)), expected) <= 1e-12


@pytest.mark.parametrize("trainable", [None, False, True, {"dt": True}, {"A": True, "P": True}])
@pytest.mark.parametrize("hurwitz", [False, True])
def test_what_trains(trainable, hurwitz):
    kernel = HippoSSKernel(2, N=4, L=8, trainable=trainable, lr=0.01, hurwitz=hurwitz).kernel
    names = {name for name, _ in kernel.named_parameters()}
    if trainable is True:
        # The reference leaves the real part of A behind unless a mapping asks for it.
        expected = {"log_dt", "B", "P"} | ({"w_imag"} if hurwitz else {"w", "Q"})
    elif not trainable:
        expected = set()
    elif "dt" in trainable:
        expected = {"log_dt"}
    else:
        expected = {"P"} | ({"log_w_real", "w_imag"} if hurwitz else {"w", "Q"})
    assert names == expected | {"C"}
    for name in expected:
        assert getattr(kernel, name)._optim == {"weight_decay": 0.0, "lr": 0.01}
    everything = set(kernel.state_dict())
    assert everything == {"C", "omega", "z", "log_dt", "B", "P"} | (
        {"log_w_real", "w_imag"} if hurwitz else {"w", "Q"}
    )
    kernel()[0].sum().backward()
    assert all(p.grad is not None for p in kernel.parameters())


def test_tensors_are_materialised():
    kernel = HippoSSKernel(5, N=4, L=8).kernel
    for value in kernel.state_dict().values():
        assert value.is_contiguous()
    kernel.load_state_dict(kernel.state_dict())


@pytest.mark.parametrize(("built", "stored"), [(200, 400), (400, 200), (36, 37), (37, 36), (8, 1)])
def test_loading_takes_the_length_over_from_the_nodes(built, stored):
    source = HippoSSKernel(2, N=4, L=stored).kernel
    target = HippoSSKernel(2, N=4, L=built).kernel
    target.load_state_dict(source.state_dict())
    assert stored == target.L
    assert torch.equal(target()[0], source()[0])
    assert target.double_length() is None
    assert 2 * stored == target.L


@pytest.mark.parametrize("L", [1, 2, 3, 4, 5, 999, 1000, 1001, 4096, 10001])
def test_length_is_read_off_the_nodes(L):
    from ecgcore.nn.ssm_kernel import nodes_length, reference_nodes

    omega, z = reference_nodes(L, torch.float32)
    assert omega.shape == z.shape == (L // 2 + 1, 2)
    assert nodes_length(omega) == L
    assert nodes_length(reference_nodes(L, torch.float64)[0]) == L


def test_nodes_that_are_none_are_refused():
    kernel = HippoSSKernel(2, N=4, L=8).kernel
    state = kernel.state_dict()
    state["omega"] = torch.zeros(9, 2)
    with pytest.raises(RuntimeError, match="size mismatch for omega"):
        kernel.load_state_dict(state)


def test_constructor_from_tensors():
    torch.manual_seed(0)
    w = torch.complex(-torch.rand(4), torch.randn(4))
    P, B = torch.randn(2, 4, dtype=torch.complex64), torch.randn(4, dtype=torch.complex64)
    C = torch.randn(2, 3, 4, dtype=torch.complex64)
    kernel = SSKernelNPLR(L=10, w=w, P=P, B=B, C=C, log_dt=torch.zeros(3) - 3)
    assert kernel()[0].shape == (2, 3, 10)
    assert kernel.P.shape == (2, 3, 4, 2)
    raw = SSKernelNPLR(L=10, w=w, P=P, B=B, C=C, log_dt=torch.zeros(3) - 3, length_correction=False)
    assert torch.equal(torch.view_as_complex(raw.C.detach()), C.conj())
    with pytest.raises(ValueError, match=r"w must fit \(3, 4\), got \(2, 5\)"):
        SSKernelNPLR(L=10, w=torch.zeros(2, 5) * 1j, P=P, B=B, C=C, log_dt=torch.zeros(3))
    with pytest.raises(ValueError, match="C must have shape"):
        SSKernelNPLR(L=10, w=w, P=P, B=B, C=C[0], log_dt=torch.zeros(3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"L": 0}, "L must be at least 1, got 0"),
        ({"rate": 0.0}, "rate must be a positive number, got 0.0"),
        ({"rate": float("nan")}, "rate must be a positive number, got nan"),
        ({"rate": 100.0}, "internal length 20 holds no sample"),
        ({"state": torch.zeros(1, 3, 5) * 1j}, r"state must be complex \(S, 3, 4\)"),
        ({"state": torch.zeros(1, 3, 4)}, r"state must be complex \(S, 3, 4\)"),
    ],
)
def test_errors_of_forward(arguments, message):
    with pytest.raises(ValueError, match=message):
        double_kernel()(**arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"odd_length": "right"}, "odd_length must be 'exact' or 'reference', got 'right'"),
        ({"H": 0}, "H must be at least 1, got 0"),
        ({"dt_min": 0.0}, "0 < dt_min <= dt_max expected"),
        ({"trainable": {"C": True}}, "trainable has keys dt, A, B, P, got C"),
        ({"measure": "legt"}, "needs rank >= 2"),
    ],
)
def test_errors_of_construction(options, message):
    with pytest.raises(ValueError, match=message):
        HippoSSKernel(**({"H": 2, "N": 4, "L": 8} | options))


def test_half_precision_parameters_are_refused():
    kernel = HippoSSKernel(2, N=4, L=8).kernel.bfloat16()
    with pytest.raises(TypeError, match="must stay float32 or float64, got bfloat16"):
        kernel()

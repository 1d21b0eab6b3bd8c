"""The second generation's kernels as modules: parameters, how they train, copies, errors."""

from __future__ import annotations

import copy

import pytest
import torch

from ecgcore.nn import elsm
from ecgcore.testing.compare import relative_error
from s4_checks import copies


def double_kernel(**options) -> elsm.SSKernel:
    """A kernel all in double precision, with low-rank terms and steps that matter."""
    options = {"H": 4, "N": 8, "L": 20, "channels": 2, "dt_min": 0.01} | options
    return elsm.SSKernel(**options).double()


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
    assert torch.equal(torch.view_as_complex(kernel.C.detach()), C.conj())
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

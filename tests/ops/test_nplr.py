"""``nplr_spectrum`` and ``nplr_kernel`` against dense state-space matrices and what the reference
systems gave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ecgcore import ops
from ecgcore.testing import cases, relative_error
from support import recorded, recorded_names

SIZES = [
    # S, C, R, H, N, L, tied
    (1, 1, 1, 1, 1, 1, False),
    (1, 1, 1, 2, 3, 2, False),
    (1, 2, 1, 3, 4, 10, False),
    (2, 1, 2, 3, 5, 7, True),
    (3, 2, 4, 2, 2, 33, True),
    (1, 2, 2, 2, 9, 64, False),
    (2, 3, 3, 2, 4, 97, False),
]


def parameters(S: int, C: int, R: int, H: int, N: int, tied: bool) -> dict[str, Tensor]:
    """Float64 parameters of a stable system."""
    shared = 1 if tied else H

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.complex128)

    real = -0.1 - torch.rand(shared, N, dtype=torch.float64)
    return {
        "A": torch.complex(real, 8 * torch.randn(shared, N, dtype=torch.float64)),
        "B": normal(S, shared, N),
        "C": normal(C, H, N),
        "P": 0.4 * normal(R, shared, N),
        "dt": 0.01 + 0.2 * torch.rand(H, dtype=torch.float64),
    }


def discrete(p: dict[str, Tensor], Q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Dense bilinear ``Abar (H, 2N, 2N)``, ``Bbar (S, H, 2N)`` and ``C (C, H, 2N)``."""
    H = len(p["dt"])

    def both(x: Tensor) -> Tensor:
        x = torch.cat([x, x.conj()], -1)
        return x.expand(*x.shape[:-2], H, x.shape[-1])

    matrix = torch.diag_embed(both(p["A"])) - torch.einsum("rhn,rhm->hnm", both(p["P"]), both(Q))
    half = p["dt"][:, None, None] / 2 * matrix
    eye = torch.eye(half.shape[-1], dtype=half.dtype)
    Bbar = torch.linalg.solve(eye - half, (p["dt"][:, None] * both(p["B"])).unsqueeze(-1))
    return torch.linalg.solve(eye - half, eye + half), Bbar.squeeze(-1), both(p["C"])


@pytest.mark.parametrize("explicit_q", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_kernel_is_the_impulse_response_of_the_dense_system(
    explicit_q: bool, sizes: tuple[Any, ...], op_backend: str
) -> None:
    S, C, R, H, N, L, tied = sizes
    p = parameters(S, C, R, H, N, tied)
    Q = p["P"].conj() * (1 + 0.1 * torch.randn_like(p["P"])) if explicit_q else None
    Abar, state, out = discrete(p, p["P"].conj() if Q is None else Q)
    truth = []
    for _ in range(L):
        truth.append(torch.einsum("chn,shn->sch", out, state).real)
        state = torch.einsum("hnm,shm->shn", Abar, state)
    found = ops.nplr_kernel(**p, L=L, Q=Q, length_correction=True)
    assert found.shape == (S, C, H, L)
    assert relative_error(found, torch.stack(truth, -1)) < 1e-12


LENGTHS = [*range(1, 11), 12, 15, 16, 20, 21, 28, 35, 45, 50, 98, 105, 128, 250, 375, 480]


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("L", LENGTHS)
def test_kernel_is_the_inverse_transform_of_the_spectrum(L: int, dtype: torch.dtype) -> None:
    """At every kind of length that the kernels transform themselves, with 19 features, no whole
    number of lanes: the result and the gradient of everything."""
    p = parameters(2, 1, 1, 19, 3, False)
    p = {k: x.to(dtype if x.is_complex() else dtype.to_real()) for k, x in p.items()}
    # Bins 0 and n/2 have imaginary parts, which an inverse transform must ignore.
    omega = (0.9 * torch.exp(-2j * torch.pi * (torch.arange(L // 2 + 1) + 0.1) / L)).to(dtype)
    weights = torch.randn(2, 1, 19, L, dtype=dtype.to_real())

    def results(function: Callable[..., Tensor]) -> list[Tensor]:
        leaves = {k: x.clone().requires_grad_() for k, x in p.items()}
        kernel = function(**leaves, L=L, omega=omega)
        return [kernel, *torch.autograd.grad(kernel, list(leaves.values()), weights)]

    def composed(**arguments: Any) -> Tensor:
        return torch.fft.irfft(ops.nplr_spectrum(**arguments), n=L)

    limit = 200 * torch.finfo(dtype).eps
    for found, expected in zip(results(ops.nplr_kernel), results(composed), strict=True):
        assert relative_error(found, expected) < limit


@pytest.mark.parametrize("L", [9, 96, 350])
def test_kernel_keeps_its_bits_for_any_number_of_threads_and_features(L: int, threads: Any) -> None:
    """Other threads, and a feature alone, meet other lanes: not a bit may change."""
    p = parameters(2, 2, 1, 37, 5, False)
    p = {k: x.to(torch.complex64 if x.is_complex() else torch.float32) for k, x in p.items()}
    weights = torch.randn(2, 2, 37, L)

    def results(p: dict[str, Tensor], weights: Tensor) -> list[Tensor]:
        leaves = {k: x.clone().requires_grad_() for k, x in p.items()}
        kernel = ops.nplr_kernel(**leaves, L=L)
        return [kernel, *torch.autograd.grad(kernel, list(leaves.values()), weights)]

    runs = []
    for count in (1, 2, 3):
        threads(count)
        runs.append(results(p, weights))
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], run, strict=True))
    for h in (0, 17, 36):
        one = {k: x[..., h : h + 1, :] if k != "dt" else x[h : h + 1] for k, x in p.items()}
        alone = results(one, weights[:, :, h : h + 1])
        for all_, single in zip(runs[0], alone, strict=True):
            axis = 0 if all_.dim() == 1 else all_.dim() - 2
            assert torch.equal(all_.narrow(axis, h, 1), single)


@pytest.mark.parametrize("L", [11, 22, 2 * 3 * 5 * 7 * 13])
def test_other_lengths_are_not_the_native_kernels(L: int) -> None:
    p = parameters(1, 1, 1, 2, 3, False)
    operands = [p["A"], p["B"], p["C"], p["P"], p["P"].conj().resolve_conj(), p["dt"], None, L]
    with pytest.raises(RuntimeError, match=f"nplr_kernel: L must have no prime factor .* got {L}"):
        torch.ops.ecgcore.nplr_kernel(*operands)
    grad = torch.ones(1, 1, 2, L, dtype=torch.float64)
    with pytest.raises(RuntimeError, match=f"nplr_kernel_backward: L must have .* got {L}"):
        torch.ops.ecgcore.nplr_kernel_backward(grad, *operands, [True] * 6)
    exact = ops.reference.nplr_kernel(**p, L=L)
    assert relative_error(ops.nplr_kernel(**p, L=L), exact) < 1e-12


def test_given_nodes_may_lie_anywhere(op_backend: str) -> None:
    p = parameters(2, 2, 2, 3, 4, False)
    omega = torch.randn(6, dtype=torch.complex128) * 0.6
    omega[0], omega[-1] = 1.0, -1.0
    found = ops.nplr_spectrum(**p, L=11, omega=omega)
    Abar, Bbar, out = discrete(p, p["P"].conj())
    resolvent = torch.linalg.inv(torch.eye(8) - omega[:, None, None, None] * Abar)
    truth = torch.einsum("chn,fhnm,shm->schf", out, resolvent, Bbar)
    assert relative_error(found, truth) < 1e-12


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("L", [2, 16, 64, 1000])
def test_nyquist_is_its_limit(dtype: torch.dtype, L: int, op_backend: str) -> None:
    """At ``omega = -1`` the resolvent is constant and the low-rank part drops out."""
    p = parameters(1, 2, 1, 3, 4, False)
    limit = p["dt"] * torch.einsum("shn,chn->sch", p["B"], p["C"]).real
    p = {k: x.to(dtype if x.is_complex() else dtype.to_real()) for k, x in p.items()}
    found = ops.nplr_spectrum(**p, L=L)
    assert torch.isfinite(torch.view_as_real(found)).all()
    assert relative_error(found[..., -1], limit.to(dtype)) < 20 * torch.finfo(dtype).eps


def test_float32_kernel_of_a_full_layer_is_exact_to_rounding() -> None:
    """N = 64, L = 1000: the reference systems err by 1.1e-4, mostly through their nodes."""
    for case in cases("nplr_kernel"):
        if (case.modes, case.L) != (32, 1000) or case.omega or "bench" in case.tags:
            continue
        inputs = case.inputs(torch.float32)
        wide = {
            k: v.to(torch.complex128 if v.is_complex() else torch.float64)
            if isinstance(v, Tensor)
            else v
            for k, v in inputs.items()
        }
        truth = ops.reference.nplr_kernel(**wide)
        assert relative_error(ops.nplr_kernel(**inputs), truth) < 1e-6
        assert relative_error(ops.nplr_kernel(**wide), truth) < 1e-12


def layer(name: str) -> tuple[Any, dict[str, Tensor], Tensor, float]:
    """A recorded S4 kernel module's parameters as arguments of the op, its nodes, its rate."""
    data = recorded(name)
    state = {
        k: torch.view_as_complex(v) if v.shape[-1] == 2 and k not in ("log_dt",) else v
        for k, v in data.under("state").items()
        if not k.startswith("log_w") and k != "w_imag"
    }
    rate = data.config["rate"]
    arguments = {k: state[k] for k in ("B", "C", "P", "Q") if k in state}
    if "w" in state:
        arguments["A"] = state["w"]
    else:  # hurwitz
        arguments["A"] = torch.complex(-torch.exp(data["state/log_w_real"]), data["state/w_imag"])
    arguments["dt"] = torch.exp(data["state/log_dt"]) * rate
    return data, arguments, state["omega"], rate


LAYERS = recorded_names(
    "s4nplr__*", exclude=("*compat_halfsum*", "*double*", "*oddL*")
)  # odd lengths are transformed wrongly there, doubled ones are the module's business


@pytest.mark.parametrize("name", LAYERS)
def test_recorded_kernels(name: str, op_backend: str) -> None:
    data, p, omega, rate = layer(name)
    L = int(data.config["L_internal"] / rate)
    kernel = ops.nplr_kernel
    shown = data["out64/K"].shape[-1]
    exact = kernel(**p, L=L)[0, ..., :shown]
    assert relative_error(exact, data["out64/K"]) < 1e-5
    if rate == 1.0:
        stored = kernel(**p, L=L, omega=omega)[0, ..., :shown]
        assert relative_error(stored, data["out64/K_f32nodes"]) < 1e-5
        assert relative_error(stored, data["out/K"]) < 1e-5


@pytest.mark.parametrize("name", [n for n in LAYERS if "hurwitz" not in n and "state2" not in n])
def test_recorded_gradients(name: str, op_backend: str) -> None:
    data, p, omega, rate = layer(name)
    L = int(data.config["L_internal"] / rate)
    if rate != 1.0:
        omega = None  # nodes of another rate were not stored: exact ones
    recorded_as = {"A": "w", "B": "B", "C": "C", "P": "P", "Q": "Q"}
    wrt = [k for k, key in recorded_as.items() if f"grad64/state/{key}" in data]
    leaves = {k: p[k].clone().requires_grad_() for k in wrt}
    kernel = ops.nplr_kernel(**{**p, **leaves}, L=L, omega=omega)[0]
    cotangent = data["in/cot_K"]
    gradients = torch.autograd.grad(
        kernel[..., : cotangent.shape[-1]], list(leaves.values()), cotangent
    )
    for k, gradient in zip(wrt, gradients, strict=True):
        truth = torch.view_as_complex(data[f"grad/state/{recorded_as[k]}"])
        assert relative_error(gradient, truth) < (5e-4 if k == "C" else 1e-3), k


def test_a_tied_parameter_gets_the_sum_of_its_features_gradients() -> None:
    p = parameters(2, 2, 2, 5, 3, True)
    p["Q"] = p["P"].conj().resolve_conj()
    wide = {k: p[k].expand(*p[k].shape[:-2], 5, 3) for k in "ABPQ"}
    weights = torch.randn(2, 2, 5, 6, dtype=torch.complex128)
    for k in "ABPQ":
        leaf = p[k].clone().requires_grad_()
        (tied,) = torch.autograd.grad(ops.nplr_spectrum(**{**p, k: leaf}, L=11), leaf, weights)
        each = wide[k].clone().requires_grad_()
        (one,) = torch.autograd.grad(ops.nplr_spectrum(**{**p, k: each}, L=11), each, weights)
        assert relative_error(tied, one.sum(-2, keepdim=True)) < 1e-13


def test_every_single_feature_is_itself() -> None:
    """A feature's spectrum does not depend on the others it is computed with."""
    p = parameters(1, 2, 1, 7, 5, False)
    together = ops.nplr_spectrum(**p, L=50)
    for h in range(7):
        alone = {k: x[..., h : h + 1, :] if k != "dt" else x[h : h + 1] for k, x in p.items()}
        assert torch.equal(ops.nplr_spectrum(**alone, L=50)[:, :, 0], together[:, :, h])


def test_no_features_and_no_rank() -> None:
    p = parameters(2, 2, 1, 3, 4, False)
    none = {k: x[..., :0, :] if k != "dt" else x[:0] for k, x in p.items()}
    assert ops.nplr_spectrum(**none, L=9).shape == (2, 2, 0, 5)
    plain = {**p, "P": p["P"][:0]}
    expected = ops.reference.nplr_spectrum(**{**p, "P": p["P"] * 0}, L=9)
    assert relative_error(ops.nplr_spectrum(**plain, L=9), expected) < 1e-13


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"L": 0}, "L must be at least 1, got 0"),
        (
            {"Q": torch.ones(2, 3, 4, dtype=torch.complex128)},
            r"Q must have shape .*got \(2, 3, 4\)",
        ),
        ({"omega": torch.ones(5, dtype=torch.complex128)}, r"omega must have shape \(L//2\+1,\)"),
        ({"dt": torch.ones(2, dtype=torch.float64)}, r"dt must have shape \(H,\) .*got \(2,\)"),
        ({"A": torch.ones(2, 4, dtype=torch.complex128)}, r"A must have shape \(H\|1, N\)"),
        ({"dt": torch.ones(3)}, "dt must be float64, got float32"),
        ({"C": torch.ones(1, 3, 0, dtype=torch.complex128)}, "N >= 1"),
    ],
)
@pytest.mark.parametrize("name", ["nplr_spectrum", "nplr_kernel"])
def test_errors_name_the_argument(name: str, change: dict[str, Any], message: str) -> None:
    arguments = {**parameters(1, 1, 1, 3, 4, False), "L": 12, **change}
    with pytest.raises(ValueError, match=rf"ecgcore::{name}: .*{message}"):
        getattr(ops, name)(**arguments)

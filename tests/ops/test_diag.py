"""``diag_kernel`` against dense recurrences, its own formulas and what the reference systems
gave."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ecgcore import ops
from ecgcore.testing import relative_error
from ecgcore.testing.compare import upcast
from support import recorded, recorded_names

DISCRETIZATIONS = pytest.mark.parametrize("discretization", ["zoh", "bilinear", "dss"])


def parameters(S: int, C: int, H: int, N: int, tied: bool) -> dict[str, Tensor]:
    """Float64 parameters of a stable system."""
    shared = 1 if tied else H

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.complex128)

    real = -0.1 - torch.rand(shared, N, dtype=torch.float64)
    return {
        "A": torch.complex(real, 8 * torch.randn(shared, N, dtype=torch.float64)),
        "B": normal(S, shared, N),
        "C": normal(C, H, N),
        "dt": 0.01 + 0.2 * torch.rand(H, dtype=torch.float64),
    }


@pytest.mark.parametrize("discretization", ["zoh", "bilinear"])
@pytest.mark.parametrize(
    "sizes", [(1, 1, 1, 1, 1, False), (2, 3, 3, 4, 33, False), (1, 2, 2, 9, 70, True)], ids=str
)
def test_kernel_is_the_impulse_response_of_the_recurrence(
    discretization: str, sizes: tuple[Any, ...], op_backend: str
) -> None:
    S, C, H, N, L, tied = sizes
    p = parameters(S, C, H, N, tied)
    A, dt = p["A"].expand(H, N), p["dt"][:, None]
    if discretization == "zoh":
        Abar = torch.exp(dt * A)
        state = p["B"] * (Abar - 1) / A
    else:
        Abar = (1 + dt * A / 2) / (1 - dt * A / 2)
        state = p["B"] * dt / (1 - dt * A / 2)
    truth = []
    for _ in range(L):
        truth.append(2 * torch.einsum("chn,shn->sch", p["C"], state).real)
        state = Abar * state
    found = ops.diag_kernel(**p, L=L, discretization=discretization)
    assert found.shape == (S, C, H, L)
    assert relative_error(found, torch.stack(truth, -1)) < 1e-12


def layer(name: str) -> tuple[Any, dict[str, Tensor], Any]:
    """A recorded S4D kernel's parameters as leaves, as arguments of the op, and its record."""
    data = recorded(name)
    kind = data.config["kernel_args"].get("real_type", "exp")
    leaves = {
        k: v.clone().requires_grad_() for k, v in data.under("state").items() if k != "A"
    }  # "A" is stored and not used
    p = leaves["inv_A_real"]
    real = {"exp": torch.exp, "none": lambda x: x, "sigmoid": torch.sigmoid}.get(
        kind, torch.nn.functional.softplus
    )(p)
    arguments = {
        "A": torch.complex(-real, leaves["A_imag"]),
        "B": torch.view_as_complex(leaves["B"])[None],
        "C": torch.view_as_complex(leaves["C"]),
        "dt": torch.exp(leaves["log_dt"]),
    }
    return leaves, arguments, data


LAYERS = recorded_names(
    "elsm_diag__*",
    # Shared copies, band limits, other rates and states are the module's business.
    exclude=("*nssm*", "*bandlimit*", "*state*", "*relu*"),
)


@pytest.mark.parametrize("name", LAYERS)
def test_recorded_kernels_and_gradients(name: str, op_backend: str) -> None:
    leaves, arguments, data = layer(name)
    L, discretization = data.config["L_requested"], data.config["kernel_args"]["disc"]
    kernel = ops.diag_kernel(**arguments, L=L, discretization=discretization)[0]
    tolerance = 2e-4 if discretization == "dss" else 1e-5
    assert relative_error(kernel, data["out64/K"]) < tolerance
    gradients = torch.autograd.grad(kernel, list(leaves.values()), data["in/cot_K"])
    for key, gradient in zip(leaves, gradients, strict=True):
        if "in/cot_K_state" in data and key != "B":
            continue  # these hold the gradient through an initial state as well
        assert relative_error(gradient, data[f"grad64/state/{key}"]) < 1e-3, key


@DISCRETIZATIONS
def test_float32_error_does_not_grow_with_the_length(discretization: str) -> None:
    for L in (100, 1000, 16384):
        A = torch.complex(torch.full((2, 32), -0.5), torch.pi * torch.arange(32).expand(2, 32))
        inputs = {
            "A": A,
            "B": torch.ones(1, 2, 32, dtype=torch.complex64),
            "C": torch.randn(1, 2, 32, dtype=torch.complex64),
            "dt": torch.tensor([1e-3, 1e-1]),
        }
        wide = upcast(inputs)
        found = ops.diag_kernel(**inputs, L=L, discretization=discretization)
        truth = ops.reference.diag_kernel(**wide, L=L, discretization=discretization)
        assert relative_error(found, truth) < 5e-7


@pytest.mark.parametrize("discretization", ["zoh", "bilinear"])
def test_small_steps_lose_nothing(discretization: str) -> None:
    """``(e^d - 1)/A`` and the logarithm for ``|d| = 1e-9``, against their series."""
    A, dt = torch.tensor([[-0.3 + 2.0j]], dtype=torch.complex128), torch.tensor([1e-9]).double()
    one = torch.ones(1, 1, 1, dtype=torch.complex128)
    found = ops.diag_kernel(A, one, one, dt, 3, discretization=discretization)[0, 0, 0]
    d = (dt * A)[0, 0]
    steps = torch.arange(3)
    truth = 2 * (dt * (1 + d / 2) * (1 + d * steps + (d * steps) ** 2 / 2)).real
    assert relative_error(found, truth) < 1e-15


@DISCRETIZATIONS
def test_a_tied_parameter_gets_the_sum_of_its_features_gradients(discretization: str) -> None:
    p = parameters(2, 2, 5, 3, True)
    weights = torch.randn(2, 2, 5, 40, dtype=torch.float64)
    for k in "AB":
        leaf = p[k].clone().requires_grad_()
        call = {"L": 40, "discretization": discretization}
        (tied,) = torch.autograd.grad(ops.diag_kernel(**{**p, k: leaf}, **call), leaf, weights)
        each = p[k].expand(*p[k].shape[:-2], 5, 3).clone().requires_grad_()
        (one,) = torch.autograd.grad(ops.diag_kernel(**{**p, k: each}, **call), each, weights)
        assert relative_error(tied, one.sum(-2, keepdim=True)) < 1e-12


def test_the_shift_of_growing_dss_modes_is_a_constant() -> None:
    """Derivatives follow the reference's graph, where torch does not see the shift."""
    p = parameters(1, 1, 2, 4, False)
    p["A"] = torch.complex(p["A"].real.abs(), p["A"].imag)
    out, grads = [], []
    for function in (ops.diag_kernel, ops.reference.diag_kernel):
        leaf = p["A"].clone().requires_grad_()
        K = function(**{**p, "A": leaf}, L=60, discretization="dss")
        out.append(K.detach())
        grads.append(torch.autograd.grad(K.square().sum(), leaf)[0])
    assert relative_error(*out) < 1e-12
    assert relative_error(*grads) < 1e-12


def test_other_discretizations_are_named() -> None:
    p = parameters(1, 1, 2, 3, False)
    with pytest.raises(
        ValueError,
        match="ecgcore::diag_kernel: discretization must be zoh, bilinear or dss, got 'foh'",
    ):
        ops.diag_kernel(**p, L=4, discretization="foh")

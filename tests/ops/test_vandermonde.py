"""``vandermonde`` and its transpose against what the reference systems gave, output and
gradients."""

from __future__ import annotations

import pytest
import torch

from ecgcore import ops
from ecgcore.testing import relative_error
from support import Recorded, recorded, recorded_names

NAMES = recorded_names("vandermonde__*")


def tolerance(data: Recorded, L: int) -> float:  # of the fixtures' README
    return 1e-6 + 2e-8 * L if data["in/v"].dtype == torch.complex64 else 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_recorded_sums_and_gradients(name: str, op_backend: str) -> None:
    data = recorded(name)
    L = data["out/K"].shape[-1]
    v, x = (data[f"in/{k}"].requires_grad_() for k in "vx")
    out = ops.vandermonde(v, x, L)
    assert relative_error(out, data["out64/K"]) < tolerance(data, L)
    gradients = torch.autograd.grad(out, (v, x), data["in/cot_K"].to(out.dtype))
    for key, gradient in zip("vx", gradients, strict=True):
        assert relative_error(gradient, data[f"grad64/in/{key}"]) < tolerance(data, L), key


@pytest.mark.parametrize("name", NAMES)
def test_recorded_transposed_sums_and_gradients(name: str, op_backend: str) -> None:
    data = recorded(name)
    u, v, x = (data[f"in/{k}"].requires_grad_() for k in ("t_u", "t_v", "x"))
    L = u.shape[-1]
    out = ops.vandermonde_transpose(u, v, x, L)
    assert relative_error(out, data["out64/T"]) < tolerance(data, L)
    gradients = torch.autograd.grad(out, (u, v, x), data["in/cot_T"].to(out.dtype))
    for key, gradient in zip(("t_u", "t_v", "t_x"), gradients, strict=True):
        assert relative_error(gradient, data[f"grad64/in/{key}"]) < tolerance(data, L), key


def s4d_lin(rows: int, modes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and ``dt A`` of an S4D-Lin layer, complex64."""
    A = torch.complex(torch.full((modes,), -0.5), torch.pi * torch.arange(modes))
    dt = torch.exp(torch.linspace(-6.9, -2.3, rows))[:, None]
    return torch.randn(rows, modes, dtype=torch.complex64), A * dt


@pytest.mark.parametrize("L", [100, 1000, 16384, 65536])
def test_float32_error_does_not_grow_with_the_length(L: int) -> None:
    v, x = s4d_lin(3, 32)
    truth = ops.reference.vandermonde(v.to(torch.complex128), x.to(torch.complex128), L)
    assert relative_error(ops.vandermonde(v, x, L), truth) < 5e-7
    u = torch.randn(3, L)
    exact = (u.double(), v.to(torch.complex128), x.to(torch.complex128))
    truth = ops.reference.vandermonde_transpose(*exact, L)
    assert relative_error(ops.vandermonde_transpose(u, v, x, L), truth) < 1e-6


@pytest.mark.parametrize("real", [-300.0, -3.0, -1e-3, 1e-3, 0.02, 0.3, 5.0, 300.0])
@pytest.mark.parametrize("pairs", [True, False])
def test_no_growth_or_decay_makes_a_nan(real: float, pairs: bool) -> None:
    L = 2000
    v = torch.randn(2, 5, dtype=torch.complex64, requires_grad=True)
    x = torch.complex(torch.full((2, 5), real), torch.randn(2, 5)).requires_grad_()
    out = ops.vandermonde(v, x, L, conjugate_pairs=pairs)
    assert not torch.isnan(torch.view_as_real(out) if out.is_complex() else out).any()
    for gradient in torch.autograd.grad(out, (v, x), torch.ones_like(out)):
        assert not torch.isnan(torch.view_as_real(gradient)).any()
    if real * L < 60:  # what float32 can hold
        wide = (v.detach().to(torch.complex128), x.detach().to(torch.complex128))
        truth = ops.reference.vandermonde(*wide, L, conjugate_pairs=pairs)
        scale = max(truth.abs().max().item(), v.abs().sum(-1).max().item())
        assert (out.detach() - truth).abs().max() < 5e-7 * scale


def test_beyond_float32_sums_stay_at_the_largest() -> None:
    v = torch.ones(1, dtype=torch.complex64)
    x = torch.full((1,), 1.0 + 0.0j, dtype=torch.complex64)
    assert ops.vandermonde(v, x, 65).abs().max() > 1e27  # exp(64) = 6e27 is a float
    assert 1e29 < ops.vandermonde(v, x, 500).abs().max() < 1e31


def test_minus_infinity_is_the_logarithm_of_zero() -> None:
    v = torch.randn(4, dtype=torch.complex64)
    x = torch.full((4,), complex(float("-inf"), 1.0), dtype=torch.complex64)
    out = ops.vandermonde(v, x, 40)
    assert relative_error(out[:1], 2 * v.real.sum()[None]) < 1e-6
    assert not out[1:].any()


def test_heads_that_share_powers_get_the_bits_of_rows_that_do_not() -> None:
    v = torch.randn(3, 4, 7, dtype=torch.complex64, requires_grad=True)
    x = s4d_lin(4, 7)[1].requires_grad_()
    weights = torch.randn(3, 4, 100)
    shared = ops.vandermonde(v, x, 100)
    single = ops.vandermonde(v, x[None].expand(3, -1, -1).contiguous(), 100)
    assert torch.equal(shared, single)
    for a, b in zip(
        torch.autograd.grad(shared, (v, x), weights),
        torch.autograd.grad(single, (v, x), weights),
        strict=True,
    ):
        assert relative_error(a, b) < 1e-6


def test_rows_that_do_not_broadcast_are_named() -> None:
    v, x = torch.ones(3, 5, dtype=torch.complex64), torch.ones(2, 5, dtype=torch.complex64)
    with pytest.raises(
        ValueError,
        match=r"ecgcore::vandermonde: leading dimensions of v and log_x must broadcast, "
        r"got \(3, 5\) and \(2, 5\)",
    ):
        ops.vandermonde(v, x, 4)


def test_another_length_than_the_signals_is_named() -> None:
    v = torch.ones(3, 5, dtype=torch.complex64)
    with pytest.raises(
        ValueError,
        match=r"ecgcore::vandermonde_transpose: u must have shape \(\.\.\., L\) with L = 9, "
        r"got \(3, 8\)",
    ):
        ops.vandermonde_transpose(torch.ones(3, 8), v, v, 9)

"""``ssm_step``: what the case lists do not cover."""

from __future__ import annotations

import pytest
import torch

from ecgcore import ops
from ecgcore.testing import cases, relative_error
from ecgcore.testing.compare import upcast, widen


@pytest.mark.parametrize("case", cases("ssm_step", without="bench"), ids=str)
def test_outputs_one_by_one(case) -> None:
    """The case list judges both outputs on one scale; here each on its own, or on that of the
    inputs where it is smaller."""
    for dtype, limit in ((torch.float32, 1e-6), (torch.float64, 1e-14)):
        inputs = case.inputs(dtype)
        for found, exact in zip(
            ops.ssm_step(**inputs), ops.reference.ssm_step(**upcast(inputs)), strict=True
        ):
            error = (widen(found) - exact).abs().max()
            assert error <= limit * max(1.0, exact.abs().max())


def test_is_the_state_equation() -> None:
    """By hand: one mode, rank one, numbers that floats hold exactly."""
    A, B, C, P, Q = (torch.tensor([[x]], dtype=torch.complex64) for x in (1j, 2, 1 - 1j, 1, 0.5))
    y, x = ops.ssm_step(
        torch.tensor([[[1 + 2j]]], dtype=torch.complex64),
        torch.tensor([[3.0]]),
        A,
        B,
        C[None],
        P=P[None],
        Q=Q[None],
    )
    # x + (i x - 2 Re(x/2) + 2 * 3) = 1 + 2i + (-2 + i - 1 + 6); y = 2 Re((1 - i) (4 + 3i)).
    assert x.item() == 4 + 3j
    assert y.item() == 14


def test_small_coefficients_keep_their_digits() -> None:
    """A mode that moves by 1e-9 of itself a sample: I + A would be I in single precision."""
    A = torch.full((1, 1), -1e-9, dtype=torch.complex64)
    state = torch.full((1, 1, 1), 1e-3, dtype=torch.complex64)
    one, zero = torch.ones_like(A), torch.zeros(1, 1)
    given = state.clone()
    _, moved = ops.ssm_step(state, zero, A * 1e8, one, one[None])
    assert moved.item() == pytest.approx(0.9e-3)
    assert torch.equal(state, given)  # not in place


def test_rank_zero_is_no_rank() -> None:
    case = cases("ssm_step", "quick")[0]
    inputs = case.inputs()
    inputs["P"] = inputs["P"][:0]
    inputs["Q"] = inputs["Q"][:0]
    found = ops.ssm_step(**inputs)
    del inputs["P"], inputs["Q"]
    assert all(torch.equal(a, b) for a, b in zip(found, ops.ssm_step(**inputs), strict=True))


def test_only_one_low_rank_factor_is_an_error() -> None:
    inputs = cases("ssm_step", "quick")[0].inputs()
    for name in ("P", "Q"):
        with pytest.raises(ValueError, match="ecgcore::ssm_step: P and Q must be given together"):
            ops.ssm_step(**{k: v for k, v in inputs.items() if k != name})


def test_no_mode_is_an_error() -> None:
    inputs = {
        k: v[..., :0] if v.is_complex() else v
        for k, v in cases("ssm_step", "quick")[0].inputs().items()
    }
    with pytest.raises(ValueError, match="ecgcore::ssm_step: state must have N >= 1 modes"):
        ops.ssm_step(**inputs)


def test_an_output_nobody_uses_costs_no_gradient() -> None:
    inputs = cases("ssm_step", "quick")[0].inputs(torch.float64)
    leaf = inputs["u"].requires_grad_()
    y, _ = ops.ssm_step(**inputs)
    (through_y,) = torch.autograd.grad(y.sum(), leaf)
    wanted_y, _ = ops.reference.ssm_step(**inputs)
    (expected,) = torch.autograd.grad(wanted_y.sum(), leaf)
    assert relative_error(through_y, expected) <= 1e-14

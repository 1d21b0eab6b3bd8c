"""The functions of state-spaces/s4: calling conventions, numbers, gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ecgcore.compat import state_spaces as s4
from ecgcore.ops import reference
from ecgcore.testing import relative_error
from support import recorded


def normal(*shape: int, dtype: torch.dtype = torch.complex128) -> Tensor:
    return torch.randn(*shape, dtype=dtype)


@pytest.mark.parametrize("N", [1, 3, 64])
def test_cauchy_broadcasts_and_takes_nodes_with_axes_in_front(N: int) -> None:
    v, w, z = normal(2, 1, 4, N), normal(3, 1, N), normal(6) + 8
    expected = reference.cauchy(v, z, w)
    assert relative_error(s4.cauchy_mult(v, z, w), expected) < 1e-12
    assert relative_error(s4.cauchy_conj(v, z[None, None], w), expected) < 1e-12
    plain = reference.cauchy(v, z, w, conjugate_pairs=False)
    assert relative_error(s4.cauchy_mult(v, z, w, symmetric=False), plain) < 1e-12
    one = s4.cauchy_mult(v, z[0], w, True)
    assert relative_error(one, expected[..., :1]) < 1e-12


def test_vandermonde_with_and_without_conjugates_and_transposed() -> None:
    v, x, u = normal(2, 1, 3), 0.1 * normal(4, 3), torch.randn(2, 4, 9, dtype=torch.float64)
    assert relative_error(s4.log_vandermonde(v, x, 9), reference.vandermonde(v, x, 9)) < 1e-12
    assert torch.equal(s4.log_vandermonde_cuda(v, x, 9), s4.log_vandermonde(v, x, 9))
    both = s4.log_vandermonde(v, x, 9, conj=False)
    assert relative_error(both, reference.vandermonde(v, x, 9, conjugate_pairs=False)) < 1e-12
    T = reference.vandermonde_transpose(u, v, x, 9)
    assert relative_error(s4.log_vandermonde_transpose(u, v, x, 9), T) < 1e-12
    assert relative_error(s4.log_vandermonde_transpose(u * (1 + 2j), v, x, 9), T * (1 + 2j)) < 1e-12


def test_precisions_that_differ_are_raised_to_the_widest() -> None:
    v, w, z = normal(2, 3, dtype=torch.complex64), normal(3), torch.rand(5) + 6
    expected = reference.cauchy(v.to(w.dtype), z.to(w.dtype), w)
    found = s4.cauchy_mult(v, z, w)
    assert found.dtype == torch.complex128
    assert relative_error(found, expected) < 1e-12
    u = torch.randn(2, 9, dtype=torch.float64)
    assert s4.log_vandermonde_transpose(u, v, v, 9).dtype == torch.complex128


@pytest.mark.parametrize("pairs", [False, True])
def test_raw_cauchy_rows_against_the_recordings(pairs: bool) -> None:
    data = recorded(f"cauchy__{'sym' if pairs else 'plain'}_c128_R1C2H2N64L501")
    v, z, w, g = (data[f"in/{k}"] for k in ("v", "z", "w", "cot"))
    rows_v, rows_w = v.reshape(-1, 64), w.expand_as(v).reshape(-1, 64)
    forward = s4.cauchy_mult_sym_fwd if pairs else s4.cauchy_mult_fwd
    backward = s4.cauchy_mult_sym_bwd if pairs else s4.cauchy_mult_bwd
    out = forward(rows_v, z, rows_w)
    assert relative_error(out.reshape(data["out64/r"].shape), data["out64/r"]) < 1e-12
    dv, dw = backward(rows_v, z, rows_w, g.reshape(out.shape))
    assert relative_error(dv.reshape(v.shape), data["grad64/in/v"]) < 1e-12
    assert relative_error(dw.reshape(v.shape).sum((0, 1)), data["grad64/in/w"]) < 1e-12


def test_raw_vandermonde_rows_against_the_recordings() -> None:
    data = recorded("vandermonde__c128_C1H4N32L501")
    v, x, g = data["in/v"][0], data["in/x"], data["in/cot_K"][0]
    assert relative_error(s4.vand_log_mult_sym_fwd(v, x, 501), data["out64/K"][0]) < 1e-12
    dv, dx = s4.vand_log_mult_sym_bwd(v, x, g)
    assert relative_error(dv, data["grad64/in/v"][0]) < 1e-12
    assert relative_error(dx, data["grad64/in/x"]) < 1e-12


def test_raw_functions_name_what_does_not_fit() -> None:
    v, z = normal(2, 3), normal(5)
    with pytest.raises(
        ValueError, match=r"cauchy_mult_fwd: .*\(rows, N\), got \(2, 3\) and \(3,\)"
    ):
        s4.cauchy_mult_fwd(v, z, v[0])
    message = r"cauchy_mult_sym_bwd: dout must have shape \(2, 5\), got \(2, 4\)"
    with pytest.raises(ValueError, match=message):
        s4.cauchy_mult_sym_bwd(v, z, v, normal(2, 4))

"""HiPPO matrices: recorded values, and what makes them normal plus low rank."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ecgcore.nn import hippo
from ecgcore.testing.compare import relative_error
from support import recorded

CASES = [("legs", 1), ("legs", 2), ("legt", 2), ("lagt", 1), ("fourier", 2)]


@pytest.mark.parametrize(("measure", "rank"), CASES)
def test_matches_the_recorded_matrices(measure, rank):
    r = recorded("hippo_init")
    expected = r.under(f"out/s4model/{measure}_r{rank}")
    limit = r.config["rtol"]
    A, B = hippo.transition(measure, r.config["N"])
    P = hippo.rank_correction(measure, r.config["N"], rank)
    for got, key in ((A, "A"), (B, "B"), (P, "P")):
        assert relative_error(torch.from_numpy(got), expected[key]) <= 1e-12, key
    w, P, B = hippo.nplr(measure, r.config["N"], rank)
    order = torch.argsort(w.imag)
    w, P, B = w[order], P[:, order], B[order]
    assert relative_error(w, expected["w_sorted"]) <= limit
    assert relative_error(B.abs(), expected["absB"]) <= limit
    assert relative_error(P.abs(), expected["absP"]) <= limit
    assert relative_error(B * P.conj(), expected["B_conjP"]) <= limit


@pytest.mark.parametrize("N", [2, 8, 64])
@pytest.mark.parametrize(("measure", "rank"), [*CASES[:4], ("legs", 3)])
def test_is_similar_to_the_real_matrix(measure, rank, N):
    """The diagonal form answers an impulse as the real matrix does: C is carried over by the same
    unitary map, read off B of the transposed problem."""
    A, B = hippo.transition(measure, N)
    w, P, b = hippo.nplr(measure, N, rank)
    low_rank = P.T @ P.conj()
    both = torch.cat([P, P.conj()], -1)
    full = torch.diag(torch.cat([w, w.conj()])) - both.T @ both.conj()
    assert low_rank.shape == (N // 2, N // 2)
    start = torch.cat([b, b.conj()])
    moments, expected = [], []
    left, left_real = start.conj(), B
    for _ in range(4):  # B^T A^k B does not depend on the basis
        moments.append((left @ start).real.item())
        expected.append(float(left_real @ B))
        left, left_real = left @ full, left_real @ A
    np.testing.assert_allclose(moments, expected, rtol=1e-9)


def test_random_draws_in_the_order_of_the_reference():
    torch.manual_seed(3)
    w, P, B = hippo.nplr("random", 8, 2)
    torch.manual_seed(3)
    real, imag = -torch.exp(torch.randn(4)), torch.randn(4)
    assert torch.equal(w.to(torch.complex64), torch.complex(real, imag))
    assert torch.equal(P.to(torch.complex64), torch.randn(2, 4, dtype=torch.complex64))
    assert torch.equal(B.to(torch.complex64), torch.randn(4, dtype=torch.complex64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("legs", 7), "N must be even and at least 2, got 7"),
        (("legt", 8, 1), "'legt' needs rank >= 2, got 1"),
        (("glagt", 8), "measure must be one of legs, legt, lagt, fourier, random, got 'glagt'"),
        (("random", 8, 0), "rank must be at least 1, got 0"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        hippo.nplr(*arguments)

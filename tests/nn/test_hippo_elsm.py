"""Initial systems of the second generation: recorded values, draws, normality, errors."""

from __future__ import annotations

import math

import pytest
import torch

from ecgcore.nn import elsm, hippo_elsm
from ecgcore.testing.compare import relative_error
from support import recorded

HIPPO = [("legs", 1), ("legs", 2), ("legt", 2), ("fout", 1), ("foud", 1), ("legsd", 1)]


@pytest.mark.parametrize(("measure", "rank"), HIPPO)
def test_matches_the_recorded_matrices(measure, rank):
    r = recorded("hippo_init")
    N, limit = r.config["N"], r.config["rtol"]
    expected = r.under(f"out/elsm/{measure}_r{rank}")
    A, B = hippo_elsm.transition(measure, N)
    assert relative_error(torch.from_numpy(A), expected["A"]) <= 1e-12
    assert relative_error(torch.from_numpy(B), expected["B"]) <= 1e-12
    P = torch.from_numpy(hippo_elsm.rank_correction(measure, N, rank))
    assert (P - expected["P"]).abs().max() <= 1e-6
    w, P, B, _ = hippo_elsm.systems(measure, N, rank, 2)
    assert P.shape == (rank, 2, N // 2)
    for copy in range(2):
        assert relative_error(w[copy], expected["w"]) <= limit
        assert relative_error(B[copy].abs(), expected["absB"]) <= limit
        scale = B[copy].abs().max()
        assert (P[:, copy].abs() - expected["absP"]).abs().max() <= limit * scale
        products = B[copy] * P[:, copy].conj()
        assert (products - expected["B_conjP"]).abs().max() <= limit * scale**2


@pytest.mark.parametrize("scaling", ["real", "lin", "inv", "inv2", "quad", "legs"])
def test_matches_the_recorded_diagonal_systems(scaling):
    r = recorded("hippo_init")
    expected = r.under(f"out/elsm/dplr_{scaling}")
    for measure, options in ((f"diag-{scaling}", {}), ("dplr", {"scaling": scaling})):
        w, P, B, _ = hippo_elsm.systems(measure, r.config["N"], 2, 2, options)
        assert relative_error(w, expected["w"]) <= r.config["rtol"]
        assert relative_error(B, expected["B"]) <= r.config["rtol"]
        assert P.shape == (2, 2, r.config["N"] // 2)
        assert (P == 0).all()


@pytest.mark.parametrize("N", [2, 8, 64])
@pytest.mark.parametrize(("measure", "rank"), [*HIPPO[:4], ("legsd", 2), ("legs", 3)])
def test_is_similar_to_the_real_matrix(measure, rank, N):
    """``e0^T A^k B`` does not depend on the basis, and V reads the first state in the new one."""
    A, b = (torch.from_numpy(x) for x in hippo_elsm.transition(measure, N))
    w, P, B, V = (x[..., 0, :] for x in hippo_elsm.systems(measure, N, rank, 1))
    state, real = B, b
    for _ in range(5):
        got = 2 * (V * state).sum().real
        assert abs(got - real[0]) <= 1e-9 * real.abs().max()
        reads = 2 * (P.conj() * state).sum(-1).real
        state, real = w * state - (P * reads[:, None]).sum(0), A @ real


@pytest.mark.parametrize(
    ("names", "others"),
    [
        ("fourier", "fout"),
        ("fourier_diag", "foud"),
        ("diag-linear", "diag-lin"),
        ("diag-inverse", "diag-inv"),
        ("diag-quadratic", "diag-quad"),
        ("diag-hippo", "diag-legs"),
        ("hippo", ["legs", "fourier"]),
        ("diag", ["diag-inv", "diag-lin"]),
        ("all", ["legs", "fourier", "diag-inv", "diag-lin"]),
    ],
)
def test_names_and_mixtures(names, others):
    for a, b in zip(
        hippo_elsm.systems(names, 8, 1, 4), hippo_elsm.systems(others, 8, 1, 4), strict=True
    ):
        assert torch.equal(a, b)


def test_a_mixture_gives_each_measure_its_share_in_order():
    w = hippo_elsm.systems(["diag-lin", "diag-real"], 8, 1, 6).w
    m = torch.arange(4.0)
    assert torch.equal(w[:3].imag, (math.pi * m).expand(3, -1))
    assert torch.equal(w[3:].real, -(1 + m).expand(3, -1))


def test_options_of_diagonal_systems():
    def made(measure="diag-lin", **options):
        torch.manual_seed(5)
        return hippo_elsm.systems(measure, 8, 1, 3, options)

    assert torch.equal(made(real_scale=3.0).w.real, torch.full((3, 4), -1.5))
    assert torch.equal(made(imag_scale=2.0).w.imag, 2 * made().w.imag)
    torch.manual_seed(5)
    real, m, B = torch.rand(3, 4), 4 * torch.rand(3, 4), torch.randn(3, 4, dtype=torch.complex64)
    drawn = made(random_real=True, random_imag=True, random_B=True)
    assert torch.equal(drawn.w.real, -real)
    assert torch.equal(drawn.w.imag, math.pi * m)
    assert torch.equal(drawn.B, B)
    drawn = made("diag-random")
    torch.manual_seed(5)
    assert torch.equal(drawn.w.imag, torch.randn(3, 4))
    normal = made(normalize=True)
    assert relative_error(2 * (normal.B / normal.w).abs().square().sum(-1), torch.ones(3)) <= 1e-6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("legs", 7, 1, 2), "N must be even and at least 2, got 7"),
        (("legt", 8, 1, 2), "measure 'legt' needs rank >= 2, got 1"),
        (("lagt", 8, 1, 2), "measure must be one of legs, legt, .* got 'lagt'"),
        (("diag-cubic", 8, 1, 2), "scaling must be one of random, real, .* got 'cubic'"),
        (("hippo", 8, 1, 3), "multiple of the number of measures, 2, got 3"),
        (("legs", 8, 1, 2, {"real_scale": 2}), "measure_args belong to diagonal .* real_scale"),
        (([], 8, 1, 2), "multiple of the number of measures, 0"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        hippo_elsm.systems(*arguments)


@pytest.mark.parametrize("name", ["ELSM_S4", "ELSM_S4D"])
def test_seeded_initialisation(name):
    """Bit for bit, but for what an eigensolver has a say in: the phases of B and P are free."""
    r = recorded("init_seeded")
    torch.manual_seed(r.config["seed"])
    s4 = elsm.S4(**r.config["kwargs"][name])
    assert torch.equal(torch.rand(4), r[f"out/{name}/__next_rand"])
    expected = r.under(f"out/{name}")
    del expected["__next_rand"]
    expected.pop("kernel.kernel.A", None)  # unused, not kept
    state = s4.state_dict()
    assert list(state) == list(expected)
    solved = ("B", "P", "w_imag", "inv_w_real") if name == "ELSM_S4" else ()
    for key, value in expected.items():
        got, leaf = state[key], key.rpartition(".")[2]
        if leaf not in solved:
            assert torch.equal(got, value), key
        elif leaf in ("B", "P"):
            assert relative_error(got.square().sum(-1), value.square().sum(-1)) <= 1e-6
        else:
            assert relative_error(got, value) <= 1e-6

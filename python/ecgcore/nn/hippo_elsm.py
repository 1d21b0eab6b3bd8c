"""Where the second S4 generation starts: HiPPO matrices of its own, diagonal systems, mixtures.

Gu, Johnson, Timalsina, Rudra, Ré, "How to Train Your HiPPO: State Space Models with Generalized
Orthogonal Basis Projections" (2022), for legs, legt and the Fourier measures; Gu, Goel, Gupta, Ré,
"On the Parameterization and Initialization of Diagonal State Space Models" (2022), for the diagonal
ones. Legt is half of what the first generation has, and so is its B.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgcore.nn import hippo
from ecgcore.nn.hippo import Array

_NPLR = {
    "legs": "legs",
    "legt": "legt",
    "legsd": "legsd",
    "fourier": "fout",
    "fout": "fout",
    "fourier_diag": "foud",
    "foud": "foud",
}
_SCALINGS = {
    "random": "random",
    "real": "real",
    "lin": "lin",
    "linear": "lin",
    "inv": "inv",
    "inverse": "inv",
    "inv2": "inv2",
    "inverse2": "inv2",
    "quad": "quad",
    "quadratic": "quad",
    "legs": "legs",
    "hippo": "legs",
}
_MIXTURES = {
    "hippo": ("legs", "fourier"),
    "diag": ("diag-inv", "diag-lin"),
    "all": ("legs", "fourier", "diag-inv", "diag-lin"),
}


class SSM(NamedTuple):
    """``copies`` systems ``diag(w) - sum_r P_r P_r^*`` with input ``B``, one of each conjugate pair
    of modes; complex."""

    w: Tensor
    """``(copies, N/2)``, by rising imaginary part for the HiPPO measures"""
    P: Tensor
    """``(rank, copies, N/2)``"""
    B: Tensor
    """``(copies, N/2)``"""
    V: Tensor
    """the row that reads the first state of the undiagonalised system, ``(copies, N/2)``"""


def has_low_rank(measure: str | Sequence[str]) -> bool:
    """Whether the measure, or one of several, has a low-rank part that is not zero."""
    return any(_NPLR.get(name) in ("legs", "legt", "fout") for name in _names(measure))


def _is_diagonal(name: str) -> bool:
    return name == "dplr" or name.startswith("diag-")


def _names(measure: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(measure, str):
        return _MIXTURES.get(measure, (measure,))
    return tuple(measure)


def systems(
    measure: str | Sequence[str],
    N: int,
    rank: int,
    copies: int,
    measure_args: Mapping[str, Any] | None = None,
) -> SSM:
    """``copies`` systems of one measure, or as many of each of several, in their order.

    Args:
        measure: ``"legs"``, ``"legt"``, ``"legsd"``, ``"fourier"`` or ``"fout"``,
            ``"fourier_diag"`` or ``"foud"``, ``"diag-<scaling>"``, ``"dplr"``; a mixture
            ``"hippo"`` (legs, fourier), ``"diag"`` (diag-inv, diag-lin) or ``"all"`` (all four of
            these); or a sequence of names.
        N: state size, even.
        rank: of the correction; 2 at least for legt. Unneeded rows are zero.
        copies: how many, a multiple of the number of measures.
        measure_args: for :func:`diagonal`, given to the diagonal measures.

    Raises:
        ValueError: for unknown names, sizes out of range, arguments no measure takes.
    """
    names = _names(measure)
    if N < 2 or N % 2:
        raise ValueError(f"SSKernel: N must be even and at least 2, got {N}")
    if not names or copies % len(names):
        raise ValueError(
            f"SSKernel: n_ssm must be a multiple of the number of measures, {len(names)}, "
            f"got {copies}"
        )
    options = dict(measure_args or {})
    if options and not any(map(_is_diagonal, names)):
        raise ValueError(
            f"SSKernel: measure_args belong to diagonal measures, got {', '.join(options)} "
            f"for {measure!r}"
        )
    each = copies // len(names)
    parts = []
    for name in names:
        if _is_diagonal(name):
            scaling = {"scaling": name.removeprefix("diag-")} if name != "dplr" else {}
            parts.append(diagonal(N, rank, each, **(options | scaling)))
        else:
            parts.append(_hippo(name, N, rank, each))
    w, P, B, V = zip(*parts, strict=True)
    return SSM(torch.cat(w), torch.cat(P, dim=1), torch.cat(B), torch.cat(V))


def transition(measure: str, N: int) -> tuple[Array, Array]:
    """The real state matrix ``A (N, N)`` and input vector ``B (N,)`` of ``x' = A x + B u``.

    Raises:
        ValueError: for a measure that has none.
    """
    _check(measure)
    name = _NPLR[measure]
    if name == "legs":
        return hippo.transition("legs", N)
    if name == "legt":
        A, B = hippo.transition("legt", N)
        return A / 2, B / 2
    if name == "legsd":
        A, B = hippo.transition("legs", N)
        p = hippo.rank_correction("legs", N, 1)
        return A + p.T @ p, B / 2
    # Cosine and sine of each frequency take turns; the constant has the first pair to itself.
    turn = np.zeros(N - 1)
    turn[::2] = np.pi * np.arange(N // 2)
    rotation = np.diag(turn, -1) - np.diag(turn, 1)
    B = np.tile([math.sqrt(2), 0.0], N // 2)
    B[0] = 1.0
    if name == "foud":
        return 2 * rotation - np.eye(N) / 2, B
    return rotation - np.outer(B, B), B


def rank_correction(measure: str, N: int, rank: int) -> Array:
    """``P (rank, N)`` such that ``A + P^T P`` is normal; rows beyond those needed are zero.

    Raises:
        ValueError: where ``rank`` is smaller than the measure needs (2 for legt, else 1).
    """
    _check(measure)
    name = _NPLR[measure]
    needed = 2 if name == "legt" else 1
    if rank < needed:
        raise ValueError(f"SSKernel: measure {measure!r} needs rank >= {needed}, got {rank}")
    if name == "legs":
        return hippo.rank_correction("legs", N, rank)
    if name == "legt":
        return hippo.rank_correction("legt", N, rank) / math.sqrt(2)
    P = np.zeros((rank, N))
    if name == "fout":
        P[0] = transition(measure, N)[1]
    return P


def diagonal(
    N: int,
    rank: int,
    copies: int,
    *,
    scaling: str = "lin",
    real_scale: float = 1.0,
    imag_scale: float = 1.0,
    random_real: bool = False,
    random_imag: bool = False,
    random_B: bool = False,
    normalize: bool = False,
) -> SSM:
    r"""Diagonal systems (S4D): ``P`` is zero.

    ``w_m = -1/2 + i f(m)`` for ``m = 0 .. N/2-1``, with ``f`` by ``scaling``: lin ``pi m``, inv
    ``N/pi (N/(1+2m) - 1)``, inv2 ``N/pi (N/(1+m) - 1)``, quad ``(1+2m)^2 / pi``, legs the
    frequencies of the HiPPO-LegS matrix, random normal numbers; real is ``w_m = -(1+m)``.

    Args:
        scaling: random, real, lin(ear), inv(erse), inv2, quad(ratic), legs or hippo.
        real_scale, imag_scale: factors of the two parts; real has no use for either.
        random_real: the real part is uniform in (-1, 0), then scaled.
        random_imag: ``m`` is uniform in (0, N/2).
        random_B: normal complex numbers, not ones.
        normalize: divide ``B`` by ``sqrt(2 sum |B/w|^2)``.

    Draws, in this order, from torch's default generator: real part, ``m``, the random frequencies,
    ``B``, and ``P``'s numbers, which are multiplied by zero.

    Raises:
        ValueError: for an unknown scaling.
    """
    if scaling not in _SCALINGS:
        raise ValueError(
            f"SSKernel: a diagonal measure's scaling must be one of {', '.join(_SCALINGS)}, "
            f"got {scaling!r}"
        )
    kind, n = _SCALINGS[scaling], N // 2
    single = torch.float32
    real = torch.rand(copies, n, dtype=single) if random_real else torch.full((copies, n), 0.5)
    real = real_scale * real
    counted = torch.arange(n, dtype=single).expand(copies, n)
    m = n * torch.rand(copies, n, dtype=single) if random_imag else counted
    if kind == "random":
        imaginary = torch.randn(copies, n, dtype=single)
    elif kind == "real":
        real, imaginary = 1 + counted, torch.zeros(copies, n)
    elif kind == "lin":
        imaginary = math.pi * m
    elif kind == "inv":
        imaginary = N / math.pi * (N / (1 + 2 * m) - 1)
    elif kind == "inv2":
        imaginary = N / math.pi * (N / (1 + m) - 1)
    elif kind == "quad":
        imaginary = (1 + 2 * m) ** 2 / math.pi
    else:
        imaginary = torch.from_numpy(_diagonalised("legsd", N, 1)[0].imag).to(m).expand(copies, n)
    w = torch.complex(-real.to(single), imag_scale * imaginary.to(single))
    B = torch.ones(copies, n, dtype=torch.complex64)
    if random_B:
        B = torch.randn(copies, n, dtype=torch.complex64)
    if normalize:
        B = B / torch.sqrt(2 * (B / w).abs().square().sum(-1, keepdim=True))
    P = 0 * torch.randn(rank, copies, n, dtype=torch.complex64)
    V = torch.zeros_like(B)
    V[:, 0] = 1.0  # there is no other basis: the first mode is read
    return SSM(w, P, B, V)


def _hippo(measure: str, N: int, rank: int, copies: int) -> SSM:
    w, P, B, V = (torch.tensor(a) for a in _diagonalised(measure, N, rank))
    return SSM(
        w.expand(copies, -1),
        P[:, None].expand(-1, copies, -1),
        B.expand(copies, -1),
        V.expand(copies, -1),
    )


@cache
def _diagonalised(measure: str, N: int, rank: int) -> tuple[NDArray[Any], ...]:
    """``w, P, B`` and the first row of the eigenvectors, in float64."""
    A, b = transition(measure, N)
    p = rank_correction(measure, N, rank)
    shift, imaginary, vectors, alone = hippo.eigenbasis(A + p.T @ p)
    imaginary, vectors = -imaginary, vectors.conj()  # this generation keeps the other halves
    if len(imaginary) < N // 2:
        # Zero frequency: a real pair of states that nothing couples, two equal eigenvalues. Of fout
        # the reference keeps e0 + i e1, whose real part is the constant; of foud the second state,
        # which has no input, so that the constant is lost there.
        pair = np.zeros(N, dtype=complex)
        if _NPLR[measure] == "fout":
            pair[alone[:2]] = np.array([1, 1j]) / math.sqrt(2)
        else:
            pair[alone[1]] = 1
        imaginary = np.append(imaginary, 0.0)
        vectors = np.concatenate([vectors, pair[:, None]], axis=1)
    back = vectors.conj().T
    return shift + 1j * imaginary, p @ back.T, back @ b, vectors[0]


def _check(measure: str) -> None:
    if measure not in _NPLR:
        known = ", ".join([*_NPLR, *_MIXTURES, "dplr", "diag-<scaling>"])
        raise ValueError(f"SSKernel: measure must be one of {known}, got {measure!r}")

"""HiPPO matrices in normal-plus-low-rank form, diagonalised: where S4 starts from.

Gu, Dao, Ermon, Rudra, Ré, "HiPPO: Recurrent Memory with Optimal Polynomial Projections" (2020);
Gu, Goel, Ré, "Efficiently Modeling Long Sequences with Structured State Spaces" (2022), appendix C.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MEASURES = ("legs", "legt", "lagt", "fourier", "random")
_MIN_RANK = {"legs": 1, "legt": 2, "lagt": 1, "fourier": 2, "random": 1}

Array = NDArray[np.float64]


class NPLR(NamedTuple):
    """``diag(w) - sum_r P_r P_r^*`` and ``B`` in the eigenbasis, one of each conjugate pair."""

    w: Tensor
    """eigenvalues, ``(N/2,)`` complex128, by falling imaginary part"""
    P: Tensor
    """low-rank factor, ``(rank, N/2)`` complex128"""
    B: Tensor
    """input vector, ``(N/2,)`` complex128"""


def _check(measure: str, N: int) -> None:
    if measure not in MEASURES:
        raise ValueError(f"hippo: measure must be one of {', '.join(MEASURES)}, got {measure!r}")
    if N < 2 or N % 2:
        raise ValueError(f"hippo: N must be even and at least 2, got {N}")


def transition(measure: str, N: int) -> tuple[Array, Array]:
    """The real state matrix ``A (N, N)`` and input vector ``B (N,)`` of ``x' = A x + B u``.

    Args:
        measure: ``"legs"`` (scaled Legendre), ``"legt"`` (translated Legendre), ``"lagt"``
            (translated Laguerre) or ``"fourier"`` (translated Fourier).
        N: state size, even.

    Raises:
        ValueError: for another measure (``"random"`` has no matrix) or an odd ``N``.
    """
    _check(measure, N)
    i = np.arange(N, dtype=np.float64)
    root = np.sqrt(2 * i + 1)
    if measure == "legs":
        return -np.tril(np.outer(root, root), -1) - np.diag(i + 1), root
    if measure == "legt":
        sign = np.where(i[:, None] >= i, 1.0, (-1.0) ** (i[:, None] - i))
        return -np.outer(root, root) * sign, root
    if measure == "lagt":
        return 0.5 * np.eye(N) - np.tril(np.ones((N, N))), np.ones(N)
    if measure == "fourier":
        # Cosine and sine of each frequency take turns; the constant has the first pair to itself.
        turn = np.zeros(N - 1)
        turn[::2] = 2 * np.pi * np.arange(N // 2)
        A = np.diag(turn, 1) - np.diag(turn, -1) - np.kron(np.ones((N // 2, N // 2)), np.eye(2))
        return A, np.tile([1.0, 0.0], N // 2)
    raise ValueError(f"hippo: measure {measure!r} has no transition matrix")


def rank_correction(measure: str, N: int, rank: int) -> Array:
    """``P (rank, N)`` such that ``A + P^T P`` is normal; rows beyond those needed are zero.

    Raises:
        ValueError: where ``rank`` is smaller than the measure needs (2 for legt and fourier).
    """
    _check(measure, N)
    if rank < _MIN_RANK[measure]:
        raise ValueError(
            f"hippo: measure {measure!r} needs rank >= {_MIN_RANK[measure]}, got {rank}"
        )
    i = np.arange(N)
    if measure == "legs":
        rows = np.sqrt(i + 0.5)[None]
    elif measure == "legt":
        rows = np.sqrt(2 * i + 1) * np.stack([i % 2, 1 - i % 2])
    elif measure == "lagt":
        rows = np.full((1, N), np.sqrt(0.5))
    elif measure == "fourier":
        rows = np.stack([i % 2, 1 - i % 2]).astype(np.float64)
    else:
        raise ValueError(f"hippo: measure {measure!r} has no rank correction")
    return np.concatenate([rows, np.zeros((rank - len(rows), N))])


def nplr(measure: str, N: int, rank: int = 1) -> NPLR:
    """Diagonalise a HiPPO matrix, in float64, up to its low-rank part.

    Every measure here has ``A + P^T P = a I + S`` with a real ``a`` and a skew-symmetric ``S``, so
    the unitary eigenvectors of the Hermitian ``i S`` do it: no general eigensolver, no loss of
    accuracy. The phases of eigenvectors are arbitrary; every kernel is invariant under them.

    ``"random"`` draws from torch's default generator: real and imaginary part of ``w``, ``P``,
    ``B``, in that order.

    Raises:
        ValueError: for unknown measures, odd ``N``, or a rank below what the measure needs.
    """
    _check(measure, N)
    half = N // 2
    if measure == "random":
        if rank < 1:
            raise ValueError(f"hippo: rank must be at least 1, got {rank}")
        w = torch.complex(-torch.exp(torch.randn(half)), torch.randn(half))
        P = torch.randn(rank, half, dtype=torch.complex64)
        B = torch.randn(half, dtype=torch.complex64)
        return NPLR(w.to(torch.complex128), P.to(torch.complex128), B.to(torch.complex128))

    w, P, B = (torch.tensor(a, dtype=torch.complex128) for a in _diagonalised(measure, N, rank))
    return NPLR(w, P, B)


class Eigenbasis(NamedTuple):
    """Of a normal matrix ``a I + S`` with real ``a`` and skew-symmetric real ``S``."""

    shift: float
    """``a``, the real part of every eigenvalue"""
    imaginary: Array
    """the positive imaginary parts, falling, ``(m,)``"""
    vectors: NDArray[np.complex128]
    """their unit eigenvectors, ``(N, m)``"""
    alone: NDArray[np.intp]
    """indices of the states that ``S`` couples to no other, an even number"""


def eigenbasis(normal: Array) -> Eigenbasis:
    """Diagonalise ``a I + S`` through the Hermitian ``i S``."""
    N = len(normal)
    shift = normal.trace() / N
    skew = normal - shift * np.eye(N)
    imaginary, vectors = np.linalg.eigh(-1j * skew)
    kept = imaginary > 1e-9 * np.abs(imaginary).max()
    order = np.flatnonzero(kept)[::-1]
    alone = np.flatnonzero(~skew.any(axis=1))
    return Eigenbasis(float(shift), imaginary[order], vectors[:, order], alone)


@cache
def _diagonalised(measure: str, N: int, rank: int) -> tuple[NDArray[Any], ...]:
    """``w, P, B``: every layer of a model asks for the same ones."""
    A, b = transition(measure, N)
    p = rank_correction(measure, N, rank)
    shift, imaginary, vectors, alone = eigenbasis(A + p.T @ p)
    if len(imaginary) < N // 2:
        # Zero frequency (fourier): a real pair of states that nothing couples. As the reference,
        # keep the first state of the pair, real. At w = 0 exactly the diagonal part would have its
        # pole on the DC node and the kernel would be 0/0 there, so w is moved by what single
        # precision can bear.
        alone = alone[: N // 2 - len(imaginary)]
        imaginary = np.append(imaginary, np.zeros(len(alone)))
        vectors = np.concatenate([vectors, np.eye(N)[:, alone]], axis=1)
    w = shift + 1j * imaginary
    w[np.abs(w) < 1e-4] = -1e-4
    back = vectors.conj().T
    return w, p @ back.T, back @ b

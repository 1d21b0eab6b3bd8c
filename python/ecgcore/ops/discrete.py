"""The discrete state matrix of an S4 kernel, and rows multiplied by its powers.

A complex state ``x`` of ``n`` kept modes stands for ``(x, conj(x))``. Split into real and imaginary
part it is a real state of size ``2n``, on which everything here works: a quarter of the arithmetic
of the complex ``2n x 2n`` form, and nothing to cut back to the kept half.
"""

from __future__ import annotations

import torch
from torch import Tensor


def state_matrix(A: Tensor, P: Tensor, Q: Tensor) -> Tensor:
    """``diag(A) - sum_r P_r Q_r^T`` on the state ``[Re x, Im x]``, ``(H|1, 2n, 2n)`` float64.

    Args:
        A: ``(H|1, n)`` complex.
        P, Q: ``(R, H|1, n)`` complex.
    """
    A, P, Q = (t.to(torch.complex128) for t in (A, P, Q))
    diagonal = torch.cat([A.real, A.real], -1).diag_embed()
    turn = A.imag.diag_embed()
    zero = torch.zeros_like(turn)
    rotation = torch.cat([torch.cat([zero, -turn], -1), torch.cat([turn, zero], -1)], -2)
    # Both halves of the state enter Q^T x, hence 2 Re(Q^T x).
    column = torch.cat([P.real, P.imag], -1)
    row = 2 * torch.cat([Q.real, -Q.imag], -1)
    return diagonal + rotation - torch.einsum("rhi,rhj->hij", column, row)


def bilinear(A: Tensor, dt: Tensor) -> Tensor:
    """``(I - dt A/2)^-1 (I + dt A/2)`` for ``A (H|1, m, m)`` and ``dt (H,)``: ``(H, m, m)``."""
    half = dt.to(A.dtype)[:, None, None] / 2 * A
    eye = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    return torch.linalg.solve(eye - half, eye + half)


def bilinear_low_rank(
    A: Tensor, B: Tensor, P: Tensor, Q: Tensor, dt: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The bilinear step of ``diag(A) - sum_r P_r Q_r^T``, again diagonal plus low rank.

    With ``D = 1 / (1 - dt A/2)`` and ``S = I + dt/2 2 Re(Q^T D P)`` the Woodbury identity gives
    ``(I - dt/2 (diag(A) - P Q^T))^-1 = D - dt/2 D P S^-1 Q^T D``; the discrete matrix is twice that
    minus the identity.

    Args:
        A, B: ``(H|1, n)`` complex128.
        P, Q: ``(R, H|1, n)`` complex128.
        dt: ``(H,)`` float64.

    Returns:
        ``A'``, ``B'`` ``(H, n)`` and ``P'``, ``Q'`` ``(R, H, n)``: the discrete matrix is
        ``I + diag(A') - sum_r P'_r Q'_r^T`` on conjugate pairs, the discrete input vector ``B'``.
    """
    step = dt[:, None]
    D = 1 / (1 - step / 2 * A)
    QD = Q * D
    overlap = 2 * torch.einsum("rhn,shn->hrs", QD, P.expand_as(QD)).real
    core = torch.eye(len(P), dtype=dt.dtype, device=dt.device) + dt[:, None, None] / 2 * overlap
    Q = step * torch.linalg.solve(core.to(QD.dtype), QD.transpose(0, 1)).transpose(0, 1)
    P = P * D
    sums = 2 * torch.einsum("rhn,hn->rh", Q, B.expand(len(dt), -1)).real
    low_rank = torch.einsum("rhn,rh->hn", P, sums.to(P.dtype))
    return step * A * D, step * (D * B - low_rank / 2), P, Q


def conjugate_extended(matrix: Tensor) -> Tensor:
    """A real matrix on ``[Re x, Im x]``, ``(..., 2n, 2n)``, as the one on ``[x, conj(x)]``."""
    n = matrix.shape[-1] // 2
    rr, ri = matrix[..., :n, :n], matrix[..., :n, n:]
    ir, ii = matrix[..., n:, :n], matrix[..., n:, n:]
    kept = torch.complex(rr + ii, ir - ri) / 2
    partner = torch.complex(rr - ii, ir + ri) / 2
    top, bottom = torch.cat([kept, partner], -1), torch.cat([partner.conj(), kept.conj()], -1)
    return torch.cat([top, bottom], -2)


def advance(matrix: Tensor, B: Tensor, state: Tensor, u: Tensor) -> Tensor:
    """The state after ``u (batch, H, T)`` from ``state (batch, H, n)`` complex, in float64.

    ``Abar^T s + sum_t Abar^(T-1-t) B u_t`` for ``matrix (H, 2n, 2n)``, ``B (H, n)``: 64 samples at
    a time, one product with the columns ``Abar^k B``.
    """
    n = B.shape[-1]
    x = torch.cat([state.real, state.imag], -1).to(matrix.dtype).permute(1, 2, 0)  # (H, 2n, batch)
    u = u.to(matrix.dtype).permute(1, 2, 0)  # (H, T, batch)
    columns = torch.cat([B.real, B.imag], -1).to(matrix.dtype).unsqueeze(-1)
    power = matrix
    while columns.shape[-1] < min(64, u.shape[1]):
        columns = torch.cat([columns, power @ columns], -1)
        power = power @ power
    block = columns.shape[-1]
    first = u.shape[1] % block
    if first:
        x = torch.linalg.matrix_power(matrix, first) @ x
        x = x + columns[..., :first] @ u[:, :first].flip(1)
    for start in range(first, u.shape[1], block):
        x = power @ x + columns @ u[:, start : start + block].flip(1)
    x = x.permute(2, 0, 1)
    return torch.complex(x[..., :n].contiguous(), x[..., n:].contiguous())


def rows_over_truncation(C: Tensor, matrix: Tensor, L: int) -> Tensor:
    """``C (I - matrix^L)^-1``: the plain output rows of those corrected for ``L``; shapes as in
    :func:`rows_times_power`."""
    n = C.shape[-1]
    rows = torch.cat([C.real, -C.imag], -1).to(matrix.dtype).permute(1, 2, 0)  # (H, 2n, channels)
    eye = torch.eye(2 * n, dtype=matrix.dtype, device=matrix.device)
    truncation = eye - torch.linalg.matrix_power(matrix, L)
    rows = torch.linalg.solve(truncation.transpose(-1, -2), rows).permute(2, 0, 1)
    return torch.complex(rows[..., :n].contiguous(), -rows[..., n:]).to(C.dtype)


def rows_times_power(C: Tensor, matrix: Tensor, exponent: int) -> Tensor:
    """``C matrix^exponent`` for output rows ``C (channels, H, n)`` complex, ``matrix (H, 2n, 2n)``.

    ``y = 2 Re(C x)`` is the real row ``2 [Re C, -Im C]`` on ``[Re x, Im x]``. The rows are
    multiplied by the squarings that the exponent's bits ask for, so no power is ever completed.
    """
    n = C.shape[-1]
    rows = torch.cat([C.real, -C.imag], -1).to(matrix.dtype).transpose(0, 1)  # (H, channels, 2n)
    while exponent:
        if exponent & 1:
            rows = rows @ matrix
        exponent >>= 1
        if exponent:
            matrix = matrix @ matrix
    rows = rows.transpose(0, 1)
    return torch.complex(rows[..., :n].contiguous(), -rows[..., n:]).to(C.dtype)

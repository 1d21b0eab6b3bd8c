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

# SPDX-License-Identifier: MIT
"""The S4 convolution kernel of a normal-plus-low-rank state matrix, as a spectrum and in time."""

from __future__ import annotations

import torch
from torch import Tensor


def nplr_spectrum_reference(
    A: Tensor,
    B: Tensor,
    C: Tensor,
    P: Tensor,
    dt: Tensor,
    L: int,
    *,
    Q: Tensor | None = None,
    omega: Tensor | None = None,
    length_correction: bool = False,
) -> Tensor:
    """The definition of :func:`ecgcore.ops.nplr_spectrum`, in plain torch: any order of derivative.

    With ``s = 1 + omega``, ``d = 2 (1 - omega)`` and the sum over conjugate pairs

        q(x, y) = dt sum_n [ x y / (d - s dt A) + conj(x y) / (d - s dt conj(A)) ],

    the spectrum is ``2 [ q(B, C) - s q(B, Q) (I + s q(P, Q))^-1 q(P, C) ]``: the truncated
    generating function of Gu, Goel and Ré, "Efficiently Modeling Long Sequences with Structured
    State Spaces" (2022), appendix C.3, with the factor ``2 / (1 + omega)`` multiplied into the
    Cauchy sums, so that it is finite where ``omega = -1``.
    """
    if Q is None:
        Q = P.conj()
    if length_correction:
        C = corrected_output(A, C, P, Q, dt, L)
    if omega is None:
        omega = exact_nodes(L, A.device)
    omega = omega.to(torch.complex128)
    s, d = (1 + omega).to(A.dtype), (2 * (1 - omega)).to(A.dtype)

    W = (dt[:, None] * A)[..., None]  # (H, N, 1)
    kept = 1 / (d - s * W)
    partner = 1 / (d - s * W.conj())

    def q(x: Tensor, y: Tensor) -> Tensor:
        """(X, H|1, N), (Y, H|1, N) -> (X, Y, H, L//2+1)"""
        xy = (x[:, None] * y).expand(-1, -1, len(dt), -1)
        sums = torch.einsum("xyhn,hnl->xyhl", xy, kept)
        sums = sums + torch.einsum("xyhn,hnl->xyhl", xy.conj(), partner)
        return dt[:, None] * sums

    bc, bq, pc, pq = q(B, C), q(B, Q), q(P, C), q(P, Q)
    core = torch.eye(len(P), dtype=A.dtype, device=A.device) + (s * pq).permute(2, 3, 0, 1)
    coupled = torch.linalg.solve(core, pc.permute(2, 3, 0, 1))  # (H, L//2+1, R, C)
    return 2 * (bc - s * torch.einsum("sqhl,hlqc->schl", bq, coupled))


def nplr_kernel_reference(
    A: Tensor,
    B: Tensor,
    C: Tensor,
    P: Tensor,
    dt: Tensor,
    L: int,
    *,
    Q: Tensor | None = None,
    omega: Tensor | None = None,
    length_correction: bool = False,
) -> Tensor:
    """:func:`ecgcore.ops.nplr_kernel` by definition, in plain torch."""
    spectrum = nplr_spectrum_reference(
        A, B, C, P, dt, L, Q=Q, omega=omega, length_correction=length_correction
    )
    return torch.fft.irfft(spectrum, n=L)


def exact_nodes(L: int, device: torch.device | None = None) -> Tensor:
    """The nodes ``exp(-2 pi i j / L)``, ``j = 0 .. L//2``, complex128, exactly -1 at Nyquist."""
    # cos(t/2) as sin((pi - t)/2): both half-angle sines keep their relative accuracy down to zero.
    j = torch.arange(L // 2 + 1, dtype=torch.float64, device=device)
    sin = torch.sin(torch.pi * j / L)
    cos = torch.sin(torch.pi * (L - 2 * j) / (2 * L))
    return torch.complex((cos - sin) * (cos + sin), -2 * sin * cos)


def state_matrix(A: Tensor, P: Tensor, Q: Tensor) -> Tensor:
    """``diag(A) - sum_r P_r Q_r^T`` on the state of kept modes, then conjugates: (H|1, 2N, 2N)."""
    a = torch.cat([A, A.conj()], -1)
    p = torch.cat([P, P.conj()], -1)
    q = torch.cat([Q, Q.conj()], -1)
    return torch.diag_embed(a) - torch.einsum("rhn,rhm->hnm", p, q)


def corrected_output(A: Tensor, C: Tensor, P: Tensor, Q: Tensor, dt: Tensor, L: int) -> Tensor:
    """``C (I - Abar^L)``, bilinear ``Abar`` of step ``dt``: the C of a kernel cut after L samples.

    Evaluated in float64 on the conjugate-extended state, of which the first N entries are kept.
    Shapes as in :func:`ecgcore.ops.nplr_spectrum`; differentiable.
    """
    wide = torch.complex128
    half = dt.double()[:, None, None] / 2 * state_matrix(A.to(wide), P.to(wide), Q.to(wide))
    eye = torch.eye(half.shape[-1], dtype=wide, device=half.device)
    power = torch.linalg.matrix_power(torch.linalg.solve(eye - half, eye + half), L)
    c = C.to(wide)
    c = torch.cat([c, c.conj()], -1)
    c = c - torch.einsum("chn,hnm->chm", c, power)
    return c[..., : C.shape[-1]].to(C.dtype)

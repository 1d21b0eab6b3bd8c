"""The kernel of the references' pure-torch fallback: half of each conjugate pair is missing.

Without CUDA extension and KeOps, SSSD-ECG, SynthECG and SPADE sum over the modes they store and
forget the conjugate partners. What comes out is another kernel than S4's, off by about half of it,
so this exists for one purpose: to run models that were trained that way. The functions stand in for
those of :mod:`ecgcore.ops` of the same names.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ecgcore import ops
from ecgcore.ops.nplr import exact_nodes


def nplr_spectrum(
    A: Tensor,
    B: Tensor,
    C: Tensor,
    P: Tensor,
    dt: Tensor,
    L: int,
    *,
    Q: Tensor | None = None,
    omega: Tensor | None = None,
) -> Tensor:
    """Spectrum ``(S, C, H, L//2+1)``; arguments as of :func:`ecgcore.ops.nplr_spectrum`.

    With ``z = 2 (1 - omega) / (1 + omega)`` and ``r(x, y) = dt sum_n x_n y_n / (z - dt A_n)`` it is
    ``2 / (1 + omega) [ r(B, C) - r(B, Q) (I + r(P, Q))^-1 r(P, C) ]``, the textbook form with
    sums over the kept modes.
    """
    H, Q = len(dt), P.conj() if Q is None else Q
    nodes = exact_nodes(L, A.device) if omega is None else omega.to(torch.complex128)
    s = 1 + nodes
    # At the exact Nyquist node z is infinite and every sum vanishes: 2/(1 + omega) r(x, y) tends to
    # dt/2 sum_n x_n y_n.
    pole = s == 0
    s = torch.where(pole, 1.0, s)
    z = torch.where(pole, 1.0, 2 * (1 - nodes) / s).to(A.dtype)
    factor = (2 / s).to(A.dtype)

    rows = torch.cat([X.expand(-1, H, -1) for X in (B, P)])
    columns = torch.cat([X.expand(-1, H, -1) for X in (C, Q)])
    products = rows[:, None] * columns  # (S + R, C + R, H, N)
    r = dt[:, None] * ops.cauchy(products, z, dt[:, None] * A, conjugate_pairs=False)

    S, channels, R = len(B), len(C), len(P)
    bc, bq, pc, pq = r[:S, :channels], r[:S, channels:], r[S:, :channels], r[S:, channels:]
    core = torch.eye(R, dtype=A.dtype, device=A.device) + pq.permute(2, 3, 0, 1)
    coupled = torch.linalg.solve(core, pc.permute(2, 3, 0, 1))  # (H, L//2+1, R, C)
    spectrum = factor * (bc - torch.einsum("sqhl,hlqc->schl", bq, coupled))
    limit = dt[:, None] / 2 * products[:S, :channels].sum(-1, keepdim=True)
    return torch.where(pole, limit, spectrum)


def nplr_kernel(
    A: Tensor,
    B: Tensor,
    C: Tensor,
    P: Tensor,
    dt: Tensor,
    L: int,
    *,
    Q: Tensor | None = None,
    omega: Tensor | None = None,
) -> Tensor:
    """``irfft(nplr_spectrum(...), n=L)``, ``(S, C, H, L)``, real."""
    return torch.fft.irfft(nplr_spectrum(A, B, C, P, dt, L, Q=Q, omega=omega), n=L)

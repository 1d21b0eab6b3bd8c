# SPDX-License-Identifier: MIT
"""The S4 convolution kernel of a normal-plus-low-rank state matrix, as a spectrum and in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ecgcore import _backend
from ecgcore.ops import _keops, _shared, discrete


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
    length_correction: bool = False,
) -> Tensor:
    r"""Spectrum of the S4 kernel whose state matrix is ``diag(A) - sum_r P_r Q_r^T``.

    One of each conjugate pair of modes is given; the matrix acts on the state extended by the
    conjugates, discretised bilinearly with step ``dt``. At the node ``omega`` the result is

    .. math:: 2 \left[ q(B, C) - s\, q(B, Q)\, (I + s\, q(P, Q))^{-1}\, q(P, C) \right],
        \quad q(x, y) = \Delta \sum_n \left[ \frac{x_n y_n}{d - s \Delta A_n}
        + \frac{\bar x_n \bar y_n}{d - s \Delta \bar A_n} \right]

    with ``s = 1 + omega`` and ``d = 2 (1 - omega)``: the truncated generating function of Gu, Goel
    and Ré, "Efficiently Modeling Long Sequences with Structured State Spaces" (2022), appendix
    C.3, finite and exact at every node, Nyquist included.

    Args:
        A: diagonal of the state matrix, ``(H or 1, N)``, complex64 or complex128.
        B: input vectors, ``(S, H or 1, N)``; rows beyond the first serve initial states.
        C: output vectors, ``(C, H, N)``, corrected for the length: ``C (I - Abar^L)``.
        P: low-rank factors, ``(R, H or 1, N)``, any ``R``.
        dt: step size, ``(H,)``, float32 or float64 as the others.
        L: number of samples, which sets the nodes ``exp(-2 pi i j / L)``, ``j = 0 .. L//2``.
        Q: the other factors, ``(R, H or 1, N)``; ``conj(P)`` unless given.
        omega: other nodes, ``(L//2+1,)``: those stored in a checkpoint, taken as they are.
        length_correction: ``C`` is plain, and is corrected first, in float64.

    Returns:
        ``(S, C, H, L//2+1)``, complex, of the dtype of ``C``.

    Where a size is 1 in place of ``H``, all features share the numbers. Differentiable once, in
    everything but ``omega``; only the gradients needed are computed, and the case that only ``C``
    is trained is cheaper. Memory: the result, and for a gradient nothing beyond the inputs.

    Raises:
        TypeError: for arguments that are not tensors.
        ValueError: for wrong dtypes, shapes or devices, and for ``L < 1``.
    """
    Q = _checked("nplr_spectrum", A, B, C, P, dt, L, Q, omega)
    return _spectrum(A, B, C, P, dt, L, Q, omega, length_correction)


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
    length_correction: bool = False,
) -> Tensor:
    """The S4 kernel itself, ``irfft(nplr_spectrum(...), n=L)``, for even and odd ``L``.

    Arguments, gradients and errors are those of :func:`nplr_spectrum`.

    Where ``L`` has no prime factor above 7 the transform is part of the op: it runs on a few rows
    while their spectra are in the cache, the whole spectrum is never stored (on a GPU it is, in
    scratch memory), and the result has the same bits for any number of threads. For other lengths
    ``torch.fft.irfft`` follows :func:`nplr_spectrum`, and its last bits may depend on the number of
    threads.

    Returns:
        ``(S, C, H, L)``, real.
    """
    Q = _checked("nplr_kernel", A, B, C, P, dt, L, Q, omega)
    if _backend.current_backend() != "native" or not _shared.has_plan(L):
        return torch.fft.irfft(_spectrum(A, B, C, P, dt, L, Q, omega, length_correction), n=L)
    operands = _corrected(A, B, C, P, dt, L, Q, omega, length_correction)
    K: Tensor = _kernel_op(*_dense(operands), L)
    return K.to(_shared.REAL_OF[C.dtype])


def _checked(
    op: str,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    P: Tensor,
    dt: Tensor,
    L: int,
    Q: Tensor | None,
    omega: Tensor | None,
) -> Tensor:
    """``Q``, or what stands for it, after every argument was looked at."""
    operands = {"C": C, "A": A, "B": B, "P": P, "dt": dt}
    operands |= {name: x for name, x in (("Q", Q), ("omega", omega)) if x is not None}
    for name, value in operands.items():
        _shared.check_tensor(op, name, value)
    _shared.check_dtype(op, "C", C, torch.complex64, torch.complex128)
    _shared.check_shape(op, "C", C, "(C, H, N)", (None, None, None))
    _, H, N = C.shape
    if N < 1:
        _shared.fail(op, f"C must have shape (C, H, N) with N >= 1, got {tuple(C.shape)}")
    _shared.check_length(op, L)
    shapes: dict[str, tuple[str, tuple[int | None, ...]]] = {
        "A": ("(H|1, N)", (H, N)),
        "B": ("(S, H|1, N)", (None, H, N)),
        "P": ("(R, H|1, N)", (None, H, N)),
        "dt": ("(H,)", (H,)),
        "Q": ("(R, H|1, N)", (P.shape[0] if P.dim() else None, H, N)),
        "omega": ("(L//2+1,)", (L // 2 + 1,)),
    }
    for name, value in list(operands.items())[1:]:
        _shared.check_dtype(op, name, value, _shared.REAL_OF[C.dtype] if name == "dt" else C.dtype)
        _shared.check_device(op, name, value, C.device)
        symbols, shape = shapes[name]
        given = f"L {L}" if name == "omega" else f"C {tuple(C.shape)}"
        _shared.check_feature_shape(op, name, value, symbols, shape, given)
    return P.conj() if Q is None else Q


def _spectrum(
    A: Tensor,
    B: Tensor,
    C: Tensor,
    P: Tensor,
    dt: Tensor,
    L: int,
    Q: Tensor,
    omega: Tensor | None,
    length_correction: bool,
) -> Tensor:
    if _backend.current_backend() == "reference":
        return nplr_spectrum_reference(
            A, B, C, P, dt, L, Q=Q, omega=omega, length_correction=length_correction
        )
    operands = _corrected(A, B, C, P, dt, L, Q, omega, length_correction)
    if _backend.current_backend() == "keops":
        A, B, corrected, P, Q, dt, omega = operands
        return _composed(A, B, corrected, P, dt, L, Q, omega, _keops.sum_over_modes).to(C.dtype)
    spectrum: Tensor = _spectrum_op(*_dense(operands), L)
    return spectrum.to(C.dtype)


_Operands = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None]


def _corrected(
    A: Tensor,
    B: Tensor,
    C: Tensor,
    P: Tensor,
    dt: Tensor,
    L: int,
    Q: Tensor,
    omega: Tensor | None,
    length_correction: bool,
) -> _Operands:
    """``A, B, C, P, Q, dt, omega``; if asked to, with ``C`` corrected and all in float64."""
    if length_correction:
        # All of it in float64: the correction and the spectrum pull the gradients of A and P apart.
        A, B, C, P, Q, dt = (x.to(_shared.wide_like(x)) for x in (A, B, C, P, Q, dt))
        omega = None if omega is None else omega.to(torch.complex128)
        C = corrected_output(A, C, P, Q, dt, L)
    return A, B, C, P, Q, dt, omega


def _dense(operands: _Operands) -> tuple[Tensor | None, ...]:
    return tuple(None if x is None else _shared.dense(x) for x in operands)


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
    return _composed(A, B, C, P, dt, L, Q, omega, _sum_over_modes)


def _sum_over_modes(xy: Tensor, s: Tensor, d: Tensor, A: Tensor, dt: Tensor) -> Tensor:
    """``q(x, y)`` of the products ``x y``: ``(X, Y, H, N)`` to ``(X, Y, H, L//2+1)``."""
    W = (dt[:, None] * A)[..., None]  # (H, N, 1)
    kept, partner = 1 / (d - s * W), 1 / (d - s * W.conj())
    sums = torch.einsum("xyhn,hnl->xyhl", xy, kept)
    return dt[:, None] * (sums + torch.einsum("xyhn,hnl->xyhl", xy.conj(), partner))


def _composed(
    A: Tensor,
    B: Tensor,
    C: Tensor,
    P: Tensor,
    dt: Tensor,
    L: int,
    Q: Tensor,
    omega: Tensor | None,
    sum_over_modes: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """The spectrum by its formula, ``q`` by ``sum_over_modes``."""
    if omega is None:
        omega = exact_nodes(L, A.device)
    omega = omega.to(torch.complex128)
    s, d = (1 + omega).to(A.dtype), (2 * (1 - omega)).to(A.dtype)

    def q(x: Tensor, y: Tensor) -> Tensor:
        """(X, H|1, N), (Y, H|1, N) -> (X, Y, H, L//2+1)"""
        xy = (x[:, None] * y).expand(-1, -1, len(dt), -1)
        return sum_over_modes(xy, s, d, A, dt)

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


def corrected_output(A: Tensor, C: Tensor, P: Tensor, Q: Tensor, dt: Tensor, L: int) -> Tensor:
    """``C (I - Abar^L)``, bilinear ``Abar`` of step ``dt``: the C of a kernel cut after L samples.

    Evaluated in float64. Shapes as in :func:`ecgcore.ops.nplr_spectrum`; differentiable.
    """
    step = discrete.bilinear(discrete.state_matrix(A, P, Q), dt.double())
    wide = C.to(torch.complex128)
    return (wide - discrete.rows_times_power(wide, step, L)).to(C.dtype)


@torch.library.register_fake("ecgcore::nplr_spectrum")
def _fake(
    A: Tensor,
    B: Tensor,
    C: Tensor,
    P: Tensor,
    Q: Tensor,
    dt: Tensor,
    omega: Tensor | None,
    L: int,
) -> Tensor:
    return C.new_empty((B.shape[0], C.shape[0], C.shape[1], L // 2 + 1))


@torch.library.register_fake("ecgcore::nplr_kernel")
def _fake_kernel(
    A: Tensor,
    B: Tensor,
    C: Tensor,
    P: Tensor,
    Q: Tensor,
    dt: Tensor,
    omega: Tensor | None,
    L: int,
) -> Tensor:
    return dt.new_empty((B.shape[0], C.shape[0], C.shape[1], L))


@torch.library.register_fake("ecgcore::nplr_kernel_backward")
@torch.library.register_fake("ecgcore::nplr_spectrum_backward")
def _fake_backward(
    grad: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    P: Tensor,
    Q: Tensor,
    dt: Tensor,
    omega: Tensor | None,
    L: int,
    wanted: list[bool],
) -> tuple[Tensor, ...]:
    return tuple(
        torch.empty_like(x) if want else x.new_empty((0,))
        for x, want in zip((A, B, C, P, Q, dt), wanted, strict=True)
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *operands, ctx.L = inputs
    ctx.save_for_backward(*operands)


def _register_autograd(op: str) -> Callable[..., Any]:
    native_backward = _shared.refuse_double_backward(op)

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *operands, omega = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[:6])
        grads = native_backward(_shared.dense(grad), *operands, omega, ctx.L, wanted)
        return *(g if want else None for g, want in zip(grads, wanted, strict=True)), None, None

    return _shared.register_autograd(op, backward, _setup_context)


_spectrum_op = _register_autograd("nplr_spectrum")
_kernel_op = _register_autograd("nplr_kernel")

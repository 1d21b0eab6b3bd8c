"""The long convolution of an S4 layer, with its skip and activation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ecgcore.ops import _shared

_SPECTRUM_OF = {
    torch.float32: torch.complex64,
    torch.float64: torch.complex128,
    torch.bfloat16: torch.complex64,
    torch.float16: torch.complex64,
}
_ACTIVATIONS = (None, "gelu")


def s4_conv(
    u: Tensor, spectrum: Tensor, D: Tensor | None = None, *, activation: str | None = None
) -> Tensor:
    r"""Long convolution with a two-sided kernel given by its spectrum, plus skip, then activation.

    .. math:: y = f(\mathrm{irfft}(\mathrm{rfft}(u, n) \cdot \hat k, n)_{0..L-1} + D u)

    ``spectrum`` is ``rfft(k2, n)`` of a kernel ``k2`` of period ``n``: entry ``j`` is the weight of
    ``u[t - j]``, entry ``n - 1 - j`` that of ``u[t + 1 + j]``. From a causal kernel ``K`` of at
    most ``L`` samples ``k2`` is ``K`` and zeros; a bidirectional one puts the backward half,
    reversed, at the end (Gu, Goel, Ré 2022, "Efficiently Modeling Long Sequences with Structured
    State Spaces", section 3.4; Goel et al. 2022, "It's Raw! Audio Generation with State-Space
    Models", section 4.2).

    Args:
        u: signals, ``(B, H, L)``, float32, float64, bfloat16 or float16, any ``L >= 1``.
        spectrum: ``(C, H, F)``, complex64 (complex128 for float64 signals), ``n = 2 (F - 1)``;
            ``F = L + 1`` is the usual size, a larger one is accepted. Its imaginary parts at
            frequency 0 and ``n/2`` have no effect, as in ``torch.fft.irfft``.
        D: skip weights ``(C, H)``, float32 (float64 for float64 signals), or ``None`` for no skip.
        activation: ``None`` or ``"gelu"`` (the exact, error function form).

    Returns:
        ``(B, C, H, L)`` in the dtype of ``u``; half precision signals are computed in float32.

    Differentiable once in ``u``, ``spectrum`` and ``D``; only what is needed is computed, and what
    comes before the activation is computed again instead of kept. Deterministic for any number of
    threads. The kernels know every ``n`` without a prime factor above 7; for others the spectrum is
    first taken to the nearest such length above ``2 L`` that is divisible by 8, by way of the
    kernel's ``2 L - 1`` samples that reach from one end of the signal to the other.

    Raises:
        TypeError: for arguments that are not tensors.
        ValueError: for wrong dtypes, shapes or devices, or an unknown activation.
    """
    _check(u, spectrum, D, activation)
    y: Tensor = _op(
        _shared.dense(u),
        _shared.dense(at_good_length(spectrum, u.shape[-1])),
        None if D is None else _shared.dense(D),
        activation == "gelu",
    )
    return y


def s4_conv_reference(
    u: Tensor, spectrum: Tensor, D: Tensor | None = None, *, activation: str | None = None
) -> Tensor:
    """The definition of :func:`s4_conv` in plain torch."""
    L, n = u.shape[-1], 2 * (spectrum.shape[-1] - 1)
    x = u.to(torch.float32) if u.dtype.itemsize < 4 else u
    y = torch.fft.irfft(torch.fft.rfft(x, n)[:, None] * spectrum, n)[..., :L]  # (B, C, H, L)
    if D is not None:
        y = y + D.unsqueeze(-1) * x[:, None]
    if activation == "gelu":
        y = torch.nn.functional.gelu(y)
    return y.to(u.dtype)


def at_good_length(spectrum: Tensor, L: int) -> Tensor:
    """The spectrum itself if the kernels know its length, else at a length they know that of a
    kernel that acts alike on ``L`` samples."""
    n = 2 * (spectrum.shape[-1] - 1)
    if _shared.has_plan(n):
        return spectrum
    m = -(-2 * L // 8) * 8
    while not _shared.has_plan(m):
        m += 8
    kernel = torch.fft.irfft(spectrum, n)
    gap = kernel.new_zeros((*kernel.shape[:-1], m - 2 * L + 1))
    return torch.fft.rfft(torch.cat([kernel[..., :L], gap, kernel[..., n - L + 1 :]], -1))


def _check(u: Tensor, spectrum: Tensor, D: Tensor | None, activation: str | None) -> None:
    op = "s4_conv"
    _shared.check_tensor(op, "u", u)
    _shared.check_tensor(op, "spectrum", spectrum)
    _shared.check_dtype(op, "u", u, *_SPECTRUM_OF)
    _shared.check_shape(op, "u", u, "(B, H, L)", (None, None, None))
    H, L = u.shape[1:]
    if L < 1:
        _shared.fail(op, f"u must have L >= 1, got {tuple(u.shape)}")
    dtype = _SPECTRUM_OF[u.dtype]
    _shared.check_dtype(op, "spectrum", spectrum, dtype)
    _shared.check_device(op, "spectrum", spectrum, u.device)
    if spectrum.dim() != 3 or spectrum.shape[1] != H or spectrum.shape[2] < L + 1:
        _shared.fail(
            op,
            f"spectrum must have shape (C, H, F) with H = {H} and F >= L + 1 = {L + 1}, "
            f"got {tuple(spectrum.shape)}",
        )
    if D is not None:
        _shared.check_tensor(op, "D", D)
        _shared.check_dtype(op, "D", D, _shared.REAL_OF[dtype])
        _shared.check_device(op, "D", D, u.device)
        _shared.check_shape(op, "D", D, "(C, H)", (spectrum.shape[0], H))
    if activation not in _ACTIVATIONS:
        _shared.fail(op, f"activation must be None or 'gelu', got {activation!r}")


@torch.library.register_fake("ecgcore::s4_conv")
def _fake(u: Tensor, spectrum: Tensor, D: Tensor | None, gelu: bool) -> Tensor:
    return u.new_empty((u.shape[0], spectrum.shape[0], u.shape[1], u.shape[2]))


@torch.library.register_fake("ecgcore::s4_conv_backward")
def _fake_backward(
    grad: Tensor, u: Tensor, spectrum: Tensor, D: Tensor | None, gelu: bool, wanted: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    du, dspectrum = (
        torch.empty_like(x) if want else x.new_empty((0,))
        for x, want in zip((u, spectrum), wanted[:2], strict=True)
    )
    real = _shared.REAL_OF[spectrum.dtype]
    return du, dspectrum, u.new_empty(D.shape if D is not None and wanted[2] else (0,), dtype=real)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    u, spectrum, D, ctx.gelu = inputs
    ctx.save_for_backward(u, spectrum, D)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    u, spectrum, D = ctx.saved_tensors
    wanted = list(ctx.needs_input_grad[:3])
    grads = _backward_op(_shared.dense(grad), u, spectrum, D, ctx.gelu, wanted)
    return *(g if want else None for g, want in zip(grads, wanted, strict=True)), None


_op = _shared.register_autograd("s4_conv", _backward, _setup_context)
_backward_op = _shared.refuse_double_backward("s4_conv")

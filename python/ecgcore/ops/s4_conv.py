"""The long convolution of an S4 layer, with its skip and activation."""

from __future__ import annotations

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

    Raises:
        TypeError: for arguments that are not tensors.
        ValueError: for wrong dtypes, shapes or devices, or an unknown activation.
    """
    _check(u, spectrum, D, activation)
    return s4_conv_reference(u, spectrum, D, activation=activation)


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

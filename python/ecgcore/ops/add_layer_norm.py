# SPDX-License-Identifier: MIT
"""Residual sum, layer normalisation, shift and gate of rows in one pass."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ecgcore.ops import _rows, _shared


def add_layer_norm(
    y: Tensor,
    out: Tensor,
    *,
    residual: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    shift: Tensor | None = None,
    eps: float | None = 1e-5,
    gate: bool = False,
    scale: float = 1.0,
    accumulate: bool = False,
) -> Tensor:
    r"""Normalise the sum of two rows over their features, then scale, shift and gate it.

    .. math::
        n_{b,l} &= \frac{s_{b,l} - \mu_{b,l}}{\sqrt{v_{b,l} + \epsilon}} w + c + h_b, \qquad
            s = y + r \\
        o_{b,l} &\mathrel{(+)}= \lambda\, n_{b,l} \qquad\text{or}\qquad
        o_{b,l,f} \mathrel{(+)}= \lambda \tanh(n_{b,l,f})\, \sigma(n_{b,l,f+F/2})

    with mean and biased variance over the features of each row (Ba, Kiros, Hinton 2016, "Layer
    Normalization"; the gate: van den Oord et al. 2016, "WaveNet", equation 2).

    Args:
        y: ``(B, L, F)``, float32 or float64, at any strides; copied first if the last axis is not
            dense.
        out: ``(B, L, F)``, or ``(B, L, F/2)`` with the gate, changed in place; the last axis dense,
            the others at any stride. It may be ``y`` or ``residual``.
        residual: ``r``, ``(B, L, F)``, as ``y``.
        weight: ``w``, ``(F,)``; ``None``: 1.
        bias: ``c``, ``(F,)``; ``None``: 0.
        shift: ``h``, ``(B, F)``, or ``(1, F)`` for all samples.
        eps: added to the variance; ``None``: nothing is normalised, ``n = s + h``.
        gate: the second form, for even ``F``.
        scale: ``λ``.
        accumulate: add to ``out`` instead of overwriting it.

    Returns:
        ``out``.

    ``y`` and ``residual`` are read once. The variance is that of the distances from the mean. Rows
    have the same bits in any batch and for any number of threads. No gradient.

    Raises:
        TypeError: for arguments that are not tensors.
        ValueError: for wrong dtypes, shapes or devices, an odd ``F`` with the gate, and ``weight``
            or ``bias`` without ``eps``.
        RuntimeError: where a gradient would be needed, and for an ``out`` whose last axis is not
            dense, or that overlaps itself, or the others otherwise than row for row.
    """
    operands = residual, weight, bias, shift
    if not _fit(y, out, *operands, gate, eps):
        _complain(y, out, *operands, gate, eps)
    _rows.refuse_gradients("add_layer_norm", y, out, residual, weight, bias, shift)
    torch.ops.ecgcore.add_layer_norm(
        _rows.rows(y),
        None if residual is None else _rows.rows(residual),
        *map(_rows.dense, operands[1:]),
        out,
        eps,
        gate,
        scale,
        accumulate,
    )
    _rows.changed(out)
    return out


def add_layer_norm_reference(
    y: Tensor,
    out: Tensor,
    *,
    residual: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    shift: Tensor | None = None,
    eps: float | None = 1e-5,
    gate: bool = False,
    scale: float = 1.0,
    accumulate: bool = False,
) -> Tensor:
    """The definition of :func:`add_layer_norm` in plain torch."""
    n = y if residual is None else y + residual
    if eps is not None:
        n = F.layer_norm(n, n.shape[2:], weight, bias, eps)
    if shift is not None:
        n = n + shift.unsqueeze(1)
    if gate:
        a, b = n.chunk(2, -1)
        n = torch.tanh(a) * torch.sigmoid(b)
    return out.add_(n, alpha=scale) if accumulate else out.copy_(scale * n)


def _fit(
    y: Tensor,
    out: Tensor,
    residual: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    shift: Tensor | None,
    gate: bool,
    eps: float | None,
) -> bool:
    try:
        B, L, features = y.shape
        return (
            y.dtype in (torch.float32, torch.float64)
            and not (gate and features % 2)
            and (eps is not None or (weight is None and bias is None))
            and _rows.fits(out, y, (B, L, features // 2 if gate else features))
            and _rows.fits(residual, y, (B, L, features))
            and _rows.fits(weight, y, (features,))
            and _rows.fits(bias, y, (features,))
            and _rows.fits(shift, y, (B, features), (1, features))
        )
    except (AttributeError, ValueError):  # no tensor, another number of axes
        return False


def _complain(
    y: Tensor,
    out: Tensor,
    residual: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    shift: Tensor | None,
    gate: bool,
    eps: float | None,
) -> None:
    """Say what :func:`_fit` found."""
    op = "add_layer_norm"
    _rows.check_rows(op, "y", y)
    B, L, features = y.shape
    if gate and features % 2:
        _shared.fail(op, f"y must have an even number of features, got {tuple(y.shape)}")
    if eps is None and not (weight is None and bias is None):
        _shared.fail(op, "weight and bias must be left out where eps is None")
    symbols, width = ("(B, L, F/2)", features // 2) if gate else ("(B, L, F)", features)
    _rows.check_like(op, "out", out, y, symbols, (B, L, width))
    if residual is not None:
        _rows.check_like(op, "residual", residual, y, "(B, L, F)", (B, L, features))
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None:
            _rows.check_like(op, name, value, y, "(F,)", (features,))
    if shift is not None:
        _rows.check_per_sample(op, "shift", shift, y, "(B|1, F)", B, features)


@torch.library.register_fake("ecgcore::add_layer_norm")
def _fake(
    y: Tensor,
    residual: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    shift: Tensor | None,
    out: Tensor,
    eps: float | None,
    gate: bool,
    scale: float,
    accumulate: bool,
) -> None:
    pass

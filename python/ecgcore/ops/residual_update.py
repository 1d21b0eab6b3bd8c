# SPDX-License-Identifier: MIT
"""The end of a residual block: its two outputs added to where they belong."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ecgcore.ops import _rows, _shared


def residual_update(
    rs: Tensor,
    x: Tensor,
    skip: Tensor,
    *,
    padded: Tensor | None = None,
    step: Tensor | None = None,
    first: bool = False,
) -> None:
    r"""Add the residual and the skip part of a block's output to the state and the skip sum.

    .. math:: x \leftarrow (x + r)/\sqrt{2}, \qquad k \mathrel{(+)}= s, \qquad
        p_{b,l+1} \leftarrow x_{b,l} + e_b, \qquad rs_{b,l} = [r_{b,l}, s_{b,l}]

    ``p`` is what the next block's convolution of width 3 reads: the state, moved by the embedding
    of the diffusion step, between two rows that stay as they are (zeros, as the padding of the
    reference, which the step does not move).

    Args:
        rs: ``(B, L, R + S)``, float32 or float64, at any strides; copied first if the last axis is
            not dense.
        x: ``(B, L, R)``, changed in place; the last axis dense, the others at any stride.
        skip: ``k``, ``(B, L, S)``, changed in place; likewise.
        padded: ``p``, ``(B, L + 2, R)``, all but the first and last row of each sample written;
            likewise.
        step: ``e``, ``(B, R)``, or ``(1, R)`` for all samples; only with ``padded``.
        first: assign to ``skip`` instead of adding.

    No gradient.

    Raises:
        TypeError: for arguments that are not tensors.
        ValueError: for wrong dtypes, shapes or devices, and for ``step`` without ``padded``.
        RuntimeError: where a gradient would be needed, and for written tensors whose last axis is
            not dense, or that overlap themselves or any other.
    """
    if not _fit(rs, x, skip, padded, step):
        _complain(rs, x, skip, padded, step)
    _rows.refuse_gradients("residual_update", rs, x, skip, padded, step)
    torch.ops.ecgcore.residual_update(_rows.rows(rs), _rows.dense(step), x, skip, padded, first)
    _rows.changed(*(t for t in (x, skip, padded) if t is not None))


def residual_update_reference(
    rs: Tensor,
    x: Tensor,
    skip: Tensor,
    *,
    padded: Tensor | None = None,
    step: Tensor | None = None,
    first: bool = False,
) -> None:
    """The definition of :func:`residual_update` in plain torch."""
    r, s = rs.split((x.shape[2], skip.shape[2]), -1)
    x.add_(r).mul_(math.sqrt(0.5))
    if first:
        skip.copy_(s)
    else:
        skip.add_(s)
    if padded is not None:
        padded[:, 1:-1] = x if step is None else x + step.unsqueeze(1)


def _fit(rs: Tensor, x: Tensor, skip: Tensor, padded: Tensor | None, step: Tensor | None) -> bool:
    try:
        (B, L, both), R = rs.shape, x.shape[2]
        return (
            rs.dtype in (torch.float32, torch.float64)
            and both >= R
            and _rows.fits(x, rs, (B, L, R))
            and _rows.fits(skip, rs, (B, L, both - R))
            and _rows.fits(padded, rs, (B, L + 2, R))
            and (padded is not None or step is None)
            and _rows.fits(step, rs, (B, R), (1, R))
        )
    except (AttributeError, ValueError, IndexError):  # no tensor, another number of axes
        return False


def _complain(
    rs: Tensor, x: Tensor, skip: Tensor, padded: Tensor | None, step: Tensor | None
) -> None:
    """Say what :func:`_fit` found."""
    op = "residual_update"
    _rows.check_rows(op, "rs", rs)
    B, L, both = rs.shape
    _rows.check_like(op, "x", x, rs, "(B, L, R)", (B, L, None))
    R = x.shape[2]
    if both < R:
        _shared.fail(op, f"x must have at most the {both} features of rs, got {tuple(x.shape)}")
    _rows.check_like(op, "skip", skip, rs, "(B, L, S)", (B, L, both - R))
    if padded is not None:
        _rows.check_like(op, "padded", padded, rs, "(B, L + 2, R)", (B, L + 2, R))
    if step is not None:
        if padded is None:
            _shared.fail(op, "step must be left out where padded is")
        _rows.check_per_sample(op, "step", step, rs, "(B|1, R)", B, R)


@torch.library.register_fake("ecgcore::residual_update")
def _fake(
    rs: Tensor, step: Tensor | None, x: Tensor, skip: Tensor, padded: Tensor | None, first: bool
) -> None:
    pass

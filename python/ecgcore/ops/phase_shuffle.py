# SPDX-License-Identifier: MIT
"""Phase shuffle: every sample of a batch moved in time by its own shift, reflected at the ends."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ecgcore.ops import _shared

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def phase_shuffle(x: Tensor, shifts: Tensor) -> Tensor:
    r"""Move each sample along time by its shift, all channels alike, reflecting at the ends.

    .. math:: y_{b,c,i} = x_{b,c,\,\mathrm{reflect}(i - k_b)}, \quad
        \mathrm{reflect}(j) = -j \text{ for } j < 0,\ 2(L - 1) - j \text{ for } j > L - 1

    A positive shift moves to the right; the sample at the end is not repeated (Donahue, McAuley,
    Puckette 2019, "Adversarial Audio Synthesis", section 3.3).

    Args:
        x: ``(B, C, L)``, float32, float64, bfloat16 or float16, any ``L >= 1``.
        shifts: ``k``, ``(B,)``, int64, on the device of ``x``, ``|k| < L``.

    Returns:
        Like ``x``: the same numbers in other places.

    Differentiable in ``x`` any number of times: the gradient is a gather as well, its gradient this
    function again.

    Raises:
        TypeError: for arguments that are not tensors.
        ValueError: for wrong dtypes, shapes or devices.
        RuntimeError: on the CPU, for a shift of ``L`` or more. A GPU could only report one after a
            wait for it; there the samples with such a shift become NaN.
    """
    _check(x, shifts)
    return _shuffle(_shared.dense(x), shifts.contiguous())


def phase_shuffle_reference(x: Tensor, shifts: Tensor) -> Tensor:
    """The definition of :func:`phase_shuffle` in plain torch."""
    last = x.shape[-1] - 1
    source = torch.arange(last + 1, device=x.device) - shifts.unsqueeze(-1)  # (B, L)
    source = last - (last - source.abs()).abs()  # reflected at 0, then at L - 1
    return x.gather(-1, source.unsqueeze(1).expand(x.shape))


def _check(x: Tensor, shifts: Tensor) -> None:
    op = "phase_shuffle"
    _shared.check_tensor(op, "x", x)
    _shared.check_dtype(op, "x", x, *_DTYPES)
    _shared.check_shape(op, "x", x, "(B, C, L)", (None, None, None))
    _shared.check_length(op, x.shape[2])
    _shared.check_operand(op, "shifts", shifts, torch.int64, x.device, "(B,)", (x.shape[0],))


def _fake(x: Tensor, shifts: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    (shifts,) = ctx.saved_tensors
    return _adjoint(_shared.dense(grad), shifts), None


def _adjoint_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    (shifts,) = ctx.saved_tensors
    return _shuffle(_shared.dense(grad), shifts), None


for _name in ("phase_shuffle", "phase_shuffle_adjoint"):
    torch.library.register_fake(f"ecgcore::{_name}", _fake)
_shuffle = _shared.register_autograd("phase_shuffle", _backward, _setup_context)
_adjoint = _shared.register_autograd("phase_shuffle_adjoint", _adjoint_backward, _setup_context)

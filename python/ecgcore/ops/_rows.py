# SPDX-License-Identifier: MIT
"""What the ops on rows of features share: they write into tensors of the caller's, for inference.

Whether arguments fit is first found out in a few comparisons, since a model makes hundreds of such
calls a second; only then is the misfit looked for that the error names. Strides and shared memory
are left to the native side.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ecgcore.ops import _shared


def refuse_gradients(op: str, *operands: Tensor | None) -> None:
    """Make it an error to call ``ecgcore::<op>`` where autograd would want its gradient."""
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in operands):
        raise RuntimeError(
            f"ecgcore::{op}: made for inference, without a gradient: call it under "
            f"torch.no_grad(), or use ecgcore.ops.reference.{op}"
        )


def changed(*tensors: Tensor) -> None:
    """Tell autograd, so that what it kept of them counts as overwritten."""
    if not torch.compiler.is_compiling():  # there the schema tells
        torch.autograd.graph.increment_version(tensors)


def fits(value: Tensor | None, like: Tensor, *shapes: tuple[int, ...]) -> bool:
    """Whether an optional operand is absent, or beside ``like`` in one of these shapes."""
    return value is None or (
        value.shape in shapes and value.dtype == like.dtype and value.device == like.device
    )


def check_rows(op: str, name: str, value: Any) -> None:
    """Complain of the operand whose dtype the others must have: three axes, float32 or float64."""
    _shared.check_tensor(op, name, value)
    _shared.check_dtype(op, name, value, torch.float32, torch.float64)
    _shared.check_shape(op, name, value, "(B, L, features)", (None, None, None))


def check_like(
    op: str, name: str, value: Any, like: Tensor, symbols: str, shape: tuple[int | None, ...]
) -> None:
    """Complain of an operand that must go with ``like``."""
    _shared.check_operand(op, name, value, like.dtype, like.device, symbols, shape)


def check_per_sample(
    op: str, name: str, value: Any, like: Tensor, symbols: str, batch: int, features: int
) -> None:
    """Complain of rows of which there may be one a sample, or one for all."""
    one = isinstance(value, Tensor) and value.dim() == 2 and value.shape[0] == 1
    check_like(op, name, value, like, symbols, (1 if one else batch, features))


def dense(value: Tensor | None) -> Tensor | None:
    return None if value is None else _shared.dense(value)


def rows(value: Tensor) -> Tensor:
    """Rows as the kernels read them: the last axis dense."""
    return value if value.shape[-1] < 2 or value.stride(-1) == 1 else value.contiguous()

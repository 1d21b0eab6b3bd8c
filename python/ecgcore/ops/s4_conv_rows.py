# SPDX-License-Identifier: MIT
"""The long convolution of an S4 layer for inference: rows of features in and out, from a table."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor

from ecgcore import _native
from ecgcore.ops import _rows, _shared
from ecgcore.ops.s4_conv import at_good_length, s4_conv_reference

_VECTOR_BYTES = {
    "baseline": 16,
    "avx2": 32,
    "avx512": 64,
    "avx512_bf16": 64,
    "amx_bf16": 64,
}  # as in ecgcore/math/config.h
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def s4_conv_table(spectrum: Tensor, D: Tensor | None = None) -> Tensor:
    """What :func:`s4_conv_rows` multiplies with: spectrum and skip weights, arranged once.

    Args:
        spectrum: ``(C, H, F)``, complex64 or complex128, as that of :func:`s4_conv`; signals of up
            to ``L = F - 1`` samples may be convolved with it.
        D: skip weights ``(C, H)``, real, in the precision of ``spectrum``; ``None`` for no skip.

    Returns:
        ``(C, groups, 2 F + 1, lanes)``, real, ``groups = ceil(H / lanes)``. Its order belongs to
        the device and, on the CPU, to the instruction set in use; ``F`` may have grown to a length
        that the kernels know. A copy: it does not follow later changes of ``spectrum`` or ``D``.

    Raises:
        TypeError: for arguments that are not tensors.
        ValueError: for wrong dtypes, shapes or devices.
        RuntimeError: where a gradient would be needed.
    """
    op = "s4_conv_table"
    _check_table(op, spectrum, D)
    _rows.refuse_gradients(op, spectrum, D)
    spectrum = at_good_length(spectrum, spectrum.shape[-1] - 1)
    table: Tensor = torch.ops.ecgcore.s4_conv_table(
        _shared.dense(spectrum), None if D is None else _shared.dense(D)
    )
    return table


def s4_conv_table_reference(spectrum: Tensor, D: Tensor | None = None) -> Tensor:
    """A table in plain torch, for :func:`s4_conv_rows_reference`: one group of all features."""
    C, H, F = spectrum.shape
    bins = torch.view_as_real(spectrum.resolve_conj()).permute(0, 2, 3, 1).reshape(C, 2 * F, H)
    skip = bins.new_zeros((C, H)) if D is None else D
    return torch.cat([bins, skip[:, None]], 1)[:, None]


def s4_conv_rows(u: Tensor, table: Tensor, out: Tensor, *, gelu: bool = False) -> Tensor:
    """:func:`s4_conv` on rows of features, written into ``out``.

    ``out[b, :, c H + h]`` is ``s4_conv(u.mT, spectrum, D)[b, c, h]`` for the ``spectrum`` and ``D``
    that ``table`` was made of, to the same accuracy.

    Args:
        u: signals, ``(B, L, H)``, float32, float64, bfloat16 or float16, ``1 <= L <= F - 1``.
        table: of :func:`s4_conv_table`, float32 (float64 for float64 signals).
        out: ``(B, L, C H)``, contiguous, dtype and device of ``u``, overwritten; must not overlap
            ``u``.
        gelu: whether GELU, in its exact form, is applied.

    Returns:
        ``out``.

    For inference: there is no gradient. Every number depends on its own signal alone, so a record
    has the same bits in any batch and for any number of threads.

    Raises:
        TypeError: for arguments that are not tensors.
        ValueError: for wrong dtypes, shapes or devices.
        RuntimeError: where a gradient would be needed, for an ``out`` that is not contiguous or
            shares memory with ``u``, and for a table of another instruction set.
    """
    op = "s4_conv_rows"
    if not _fit(u, table, out):
        _complain(op, u, table, out)
    _rows.refuse_gradients(op, u, table, out)
    torch.ops.ecgcore.s4_conv_rows(_shared.dense(u), table, out, gelu)
    _rows.changed(out)
    return out


def s4_conv_rows_reference(u: Tensor, table: Tensor, out: Tensor, *, gelu: bool = False) -> Tensor:
    """The definition of :func:`s4_conv_rows` in plain torch, on the table of
    :func:`s4_conv_table_reference`."""
    rows = table[:, 0]  # (C, 2 F + 1, H)
    spectrum = torch.view_as_complex(
        rows[:, :-1].unflatten(1, (-1, 2)).permute(0, 3, 1, 2).contiguous()
    )
    y = s4_conv_reference(u.mT, spectrum, rows[:, -1], activation="gelu" if gelu else None)
    return out.copy_(y.permute(0, 3, 1, 2).flatten(2))


def _check_table(op: str, spectrum: Tensor, D: Tensor | None) -> None:
    _shared.check_tensor(op, "spectrum", spectrum)
    _shared.check_dtype(op, "spectrum", spectrum, torch.complex64, torch.complex128)
    _shared.check_shape(op, "spectrum", spectrum, "(C, H, F)", (None, None, None))
    C, H, F = spectrum.shape
    if C < 1 or H < 1 or F < 2:
        _shared.fail(op, f"spectrum must have C, H >= 1 and F >= 2, got {tuple(spectrum.shape)}")
    if D is not None:
        real = _shared.REAL_OF[spectrum.dtype]
        _shared.check_operand(op, "D", D, real, spectrum.device, "(C, H)", (C, H))


def _fit(u: Tensor, table: Tensor, out: Tensor) -> bool:
    try:
        (B, L, H), (C, groups, rows, lanes) = u.shape, table.shape
        return (
            u.dtype in _DTYPES
            and table.dtype == _table_dtype(u.dtype)
            and table.device == u.device
            and groups == -(-H // lanes)
            and 1 <= L <= rows // 2 - 1
            and _rows.fits(out, u, (B, L, C * H))
        )
    except (AttributeError, ValueError, ZeroDivisionError):  # no tensor, another number of axes
        return False


def _complain(op: str, u: Tensor, table: Tensor, out: Tensor) -> NoReturn:
    """Say what :func:`_fit` found."""
    _shared.check_tensor(op, "u", u)
    _shared.check_tensor(op, "table", table)
    _shared.check_dtype(op, "u", u, *_DTYPES)
    _shared.check_shape(op, "u", u, "(B, L, H)", (None, None, None))
    _shared.check_dtype(op, "table", table, _table_dtype(u.dtype))
    _shared.check_device(op, "table", table, u.device)
    _shared.check_shape(op, "table", table, "(C, groups, 2 F + 1, lanes)", (None,) * 4)
    (B, L, H), (C, groups, rows, lanes) = u.shape, table.shape
    _rows.check_like(op, "out", out, u, "(B, L, C H)", (B, L, C * H))
    _shared.fail(
        op,
        f"u must have shape (B, L, H) with 1 <= L <= F - 1 = {rows // 2 - 1} and "
        f"ceil(H / {lanes}) = {groups} for a table {tuple(table.shape)}, got {tuple(u.shape)}",
    )


def _table_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype.itemsize < 4 else dtype


def _lanes(spectrum: Tensor) -> int:
    """Features in a group of the table; on a GPU there is one group, of all."""
    if spectrum.device.type != "cpu":
        return spectrum.shape[1]
    return _VECTOR_BYTES[_native.cpu_isa()] // (spectrum.dtype.itemsize // 2)


@torch.library.register_fake("ecgcore::s4_conv_table")
def _fake_table(spectrum: Tensor, D: Tensor | None) -> Tensor:
    C, H, F = spectrum.shape
    lanes = _lanes(spectrum)
    return spectrum.new_empty(
        (C, -(-H // lanes), 2 * F + 1, lanes), dtype=_shared.REAL_OF[spectrum.dtype]
    )


@torch.library.register_fake("ecgcore::s4_conv_rows")
def _fake_rows(u: Tensor, table: Tensor, out: Tensor, gelu: bool) -> None:
    pass


def _no_gradient(ctx: Any, grad: Tensor) -> NoReturn:
    raise RuntimeError("ecgcore::s4_conv_table: made for inference, without a gradient")


torch.library.register_autograd("ecgcore::s4_conv_table", _no_gradient)

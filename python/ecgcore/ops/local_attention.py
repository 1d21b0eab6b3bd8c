# SPDX-License-Identifier: MIT
"""Attention of every block of queries to its own and the two neighbouring blocks of keys."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from ecgcore.ops import _rows, _shared

_MASKED = -1e10


def local_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    block_length: int,
    *,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    scale: float | None = None,
    pad_keys_attend: bool = True,
    window: int | None = None,
) -> Tensor:
    r"""Three-block local attention, as in SPADE (Zuo et al. 2022, "Efficient Long Sequence Modeling
    via State Space Augmented Transformer", section 3.2).

    With ``T = block_length`` the sequence is filled up with zeros to ``nb = ceil(L / T)`` blocks.
    Query ``t`` of block ``n`` attends to the ``3 T`` keys of blocks ``n - 1``, ``n``, ``n + 1``, of
    which those before the first block and after the last are zeros.

    .. math:: y_{nt} = \sum_c p_{ntc} v_{(n-1)T+c}, \quad p_{nt\cdot} = \mathrm{softmax}_c\left(
        \mathrm{scale} \cdot q_{nT+t} \cdot k_{(n-1)T+c} + \mathrm{bias}_{tc}
        - 10^{10}\,[\text{not mask}_{ntc}] \right)

    As published, keys outside the sequence are not left out: being zeros they have the logit
    ``0 (+ bias)`` and take their share of the softmax. ``pad_keys_attend=False`` leaves them out.

    Args:
        q: queries, ``(B, heads, L, d)``, float32, float64, bfloat16 or float16.
        k: keys, same shape and dtype.
        v: values, same shape and dtype.
        block_length: ``T``, at least 1.
        bias: added to the logits, broadcasts to ``(heads, T, 3 T)``, in the dtype of ``q``, or
            float32 where ``q`` is bfloat16 or float16.
        mask: ``(B, 1, nb, T, 3 T)``, bool, true where attention is allowed; elsewhere -1e10 is
            added to the logit. Keys outside the sequence are masked by their columns alone.
        scale: factor of the products ``q k``; ``None`` is ``d ** -0.5``.
        pad_keys_attend: whether keys outside the sequence take part.
        window: keep only keys at most this far from their query, ``0 <= window <= T``. With
            ``pad_keys_attend=False`` this is a sliding window.

    Returns:
        Like ``q``; half precision inputs are computed in float32.

    Differentiable once in ``q``, ``k``, ``v`` and ``bias``; only what is needed is computed.
    Memory: the result and two numbers for each query; scores exist a tile at a time, and backward
    computes them again (Dao et al. 2022, "FlashAttention"). Inputs may have any strides; those
    dense along ``d`` are read where they are, and the result has the order of axes of ``q``.

    Raises:
        TypeError: for tensors or numbers of another type.
        ValueError: for wrong dtypes, shapes or devices, a ``block_length`` below 1, or a
            ``window`` outside ``0..T``.
    """
    _check(q, k, v, block_length, bias, mask, scale, window)
    out, _ = _op(*_operands(q, k, v, block_length, bias, mask, scale), pad_keys_attend, window)
    # Rounded out here, so that the gradient sees what was computed.
    return cast(Tensor, out.to(q.dtype))


def local_attention_into(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    stats: Tensor,
    block_length: int,
    *,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    scale: float | None = None,
    pad_keys_attend: bool = True,
    window: int | None = None,
) -> Tensor:
    """:func:`local_attention` written into ``out``, with no memory of its own on a GPU.

    Args:
        q, k, v, block_length, bias, mask, scale, pad_keys_attend, window: of
            :func:`local_attention`; what is not dense, or a bias that is to be expanded, is copied
            first.
        out: ``(B, heads, L, d)``, overwritten; any strides, dense along ``d``; float32, float64
            where ``q`` is. Apart from ``q``, ``k`` and ``v``.
        stats: ``(B, heads, L, 2)``, contiguous, dtype of ``out``, overwritten: the largest logit of
            each query, and the sum of what its softmax divides by.

    Returns:
        ``out``.

    For inference: there is no gradient.

    Raises:
        TypeError: for tensors or numbers of another type.
        ValueError: for wrong dtypes, shapes or devices, a ``block_length`` below 1, or a
            ``window`` outside ``0..T``.
        RuntimeError: where a gradient would be needed, for an ``out`` whose last axis or ``stats``
            that are not dense, or that share memory with the others.
    """
    _check(q, k, v, block_length, bias, mask, scale, window)
    op = "local_attention_into"
    _rows.refuse_gradients(op, q, k, v, out, stats, bias)
    B, heads, L, d = q.shape
    real, device = _real_of(q.dtype), q.device
    _shared.check_operand(op, "out", out, real, device, "(B, heads, L, d)", (B, heads, L, d))
    _shared.check_operand(op, "stats", stats, real, device, "(B, heads, L, 2)", (B, heads, L, 2))
    operands = _operands(q, k, v, block_length, bias, mask, scale)
    torch.ops.ecgcore.local_attention_into(*operands, pad_keys_attend, window, out, stats)
    _rows.changed(out, stats)
    return out


def local_attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    block_length: int,
    *,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    scale: float | None = None,
    pad_keys_attend: bool = True,
    window: int | None = None,
) -> Tensor:
    """The definition of :func:`local_attention` in plain torch, with all scores in memory."""
    scores = _scores(q, k, block_length, bias, mask, scale, pad_keys_attend, window)
    return _weighted(torch.softmax(scores, -1), v, block_length).to(q.dtype)


def local_attention_into_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    stats: Tensor,
    block_length: int,
    *,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    scale: float | None = None,
    pad_keys_attend: bool = True,
    window: int | None = None,
) -> Tensor:
    """The definition of :func:`local_attention_into`, likewise."""
    scores = _scores(q, k, block_length, bias, mask, scale, pad_keys_attend, window)
    largest = scores.amax(-1, keepdim=True)
    terms = torch.exp(scores - largest)
    total = terms.sum(-1, keepdim=True)
    stats.copy_(torch.cat([largest, total], -1).flatten(2, 3)[:, :, : q.shape[2]])
    return out.copy_(_weighted(terms / total, v, block_length))


def _blocks(x: Tensor, T: int) -> Tensor:
    """``(B, heads, nb, T, d)``, zeros behind the last row."""
    L = x.shape[2]
    nb = -(-L // T)
    return F.pad(x.to(_real_of(x.dtype)), (0, 0, 0, nb * T - L)).unflatten(2, (nb, T))


def _neighbours(x: Tensor, T: int) -> Tensor:
    """``(B, heads, nb, 3 T, d)``: each block between those beside it."""
    x = F.pad(_blocks(x, T), (0, 0, 0, 0, 1, 1))
    return torch.cat([x[:, :, :-2], x[:, :, 1:-1], x[:, :, 2:]], 3)


def _weighted(weights: Tensor, v: Tensor, T: int) -> Tensor:
    return (weights @ _neighbours(v, T)).flatten(2, 3)[:, :, : v.shape[2]]


def _scores(
    q: Tensor,
    k: Tensor,
    T: int,
    bias: Tensor | None,
    mask: Tensor | None,
    scale: float | None,
    pad_keys_attend: bool,
    window: int | None,
) -> Tensor:
    """All logits, ``(B, heads, nb, T, 3 T)``."""
    heads, L, d = q.shape[1:]
    nb = -(-L // T)
    real = _real_of(q.dtype)
    scores = (d**-0.5 if scale is None else scale) * (_blocks(q, T) @ _neighbours(k, T).mT)
    if bias is not None:
        scores = scores + bias.to(real).expand(heads, T, 3 * T)[:, None]
    if mask is not None:
        scores = scores + torch.where(mask, 0.0, _MASKED).to(real)
    start = T * torch.arange(nb, device=q.device)[:, None, None]
    query = start + torch.arange(T, device=q.device)[:, None]  # (nb, T, 1)
    key = start - T + torch.arange(3 * T, device=q.device)  # (nb, 1, 3 T)
    keep = torch.ones_like(query + key, dtype=torch.bool)
    if not pad_keys_attend:
        keep &= (key >= 0) & (key < L)
    if window is not None:
        keep &= (query - key).abs() <= window
    keep |= query >= L  # rows that are cut off below must not be all -inf, whose softmax is NaN
    return scores.masked_fill(~keep, -torch.inf)


def _real_of(dtype: torch.dtype) -> torch.dtype:
    """What is computed in."""
    return torch.float32 if dtype.itemsize < 4 else dtype


def _operands(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    T: int,
    bias: Tensor | None,
    mask: Tensor | None,
    scale: float | None,
) -> tuple[Tensor, Tensor, Tensor, int, Tensor | None, Tensor | None, float]:
    """As the kernels want them."""
    if bias is not None:
        bias = _shared.dense(bias.to(_real_of(q.dtype)).expand(q.shape[1], T, 3 * T))
    return (
        _dense_rows(q),
        _dense_rows(k),
        _dense_rows(v),
        T,
        bias,
        None if mask is None else mask.contiguous(),
        q.shape[3] ** -0.5 if scale is None else float(scale),
    )


def _dense_rows(x: Tensor) -> Tensor:
    """The kernels take any strides but along the last axis."""
    x = x.resolve_neg()
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    block_length: int,
    bias: Tensor | None,
    mask: Tensor | None,
    scale: float | None,
    window: int | None,
) -> None:
    op = "local_attention"
    for name, value in (("q", q), ("k", k), ("v", v)):
        _shared.check_tensor(op, name, value)
    _shared.check_dtype(op, "q", q, torch.float32, torch.float64, torch.bfloat16, torch.float16)
    _shared.check_shape(op, "q", q, "(B, heads, L, d)", (None,) * 4)
    B, heads, L, d = q.shape
    if heads < 1 or L < 1 or d < 1:
        _shared.fail(op, f"q must have heads, L, d >= 1, got {tuple(q.shape)}")
    for name, value in (("k", k), ("v", v)):
        _shared.check_dtype(op, name, value, q.dtype)
        _shared.check_device(op, name, value, q.device)
        _shared.check_shape(op, name, value, "(B, heads, L, d)", (B, heads, L, d))
    _check_number(op, "block_length", block_length, int)
    T = block_length
    if T < 1:
        _shared.fail(op, f"block_length must be at least 1, got {T}")
    if bias is not None:
        _shared.check_tensor(op, "bias", bias)
        wide = (torch.float32,) if q.dtype.itemsize < 4 else ()
        _shared.check_dtype(op, "bias", bias, q.dtype, *wide)
        _shared.check_device(op, "bias", bias, q.device)
        full = (heads, T, 3 * T)
        if bias.dim() > 3 or any(
            got not in (1, want)
            for got, want in zip(reversed(bias.shape), reversed(full), strict=False)
        ):
            _shared.fail(
                op,
                f"bias must have a shape that broadcasts to (heads, T, 3 T) = {full}, "
                f"got {tuple(bias.shape)}",
            )
    if mask is not None:
        _shared.check_tensor(op, "mask", mask)
        _shared.check_dtype(op, "mask", mask, torch.bool)
        _shared.check_device(op, "mask", mask, q.device)
        shape = (B, 1, -(-L // T), T, 3 * T)
        _shared.check_shape(op, "mask", mask, "(B, 1, nb, T, 3 T)", shape)
    if scale is not None:
        _check_number(op, "scale", scale, (int, float))
    if window is not None:
        _check_number(op, "window", window, int)
        if not 0 <= window <= T:
            _shared.fail(op, f"window must lie in 0..block_length = 0..{T}, got {window}")


def _check_number(op: str, name: str, value: object, kind: type | tuple[type, ...]) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        word = "an int" if kind is int else "a float"
        raise TypeError(f"ecgcore::{op}: {name} must be {word}, got {type(value).__name__}")


def _empty_in_order(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Dense, in the order of axes that the strides of ``x`` have, the last axis last."""
    order = sorted(range(3), key=lambda axis: x.stride(axis), reverse=True)
    inverse = [order.index(axis) for axis in range(3)]
    shape = [x.shape[axis] for axis in (*order, 3)]
    return x.new_empty(shape, dtype=dtype).permute(*inverse, 3)


@torch.library.register_fake("ecgcore::local_attention")
def _fake(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    block_length: int,
    bias: Tensor | None,
    mask: Tensor | None,
    scale: float,
    pad_keys_attend: bool,
    window: int | None,
) -> tuple[Tensor, Tensor]:
    real = _real_of(q.dtype)
    return _empty_in_order(q, real), q.new_empty((*q.shape[:3], 2), dtype=real)


@torch.library.register_fake("ecgcore::local_attention_into")
def _fake_into(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    block_length: int,
    bias: Tensor | None,
    mask: Tensor | None,
    scale: float,
    pad_keys_attend: bool,
    window: int | None,
    out: Tensor,
    stats: Tensor,
) -> None:
    pass


@torch.library.register_fake("ecgcore::local_attention_backward")
def _fake_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    stats: Tensor,
    block_length: int,
    bias: Tensor | None,
    mask: Tensor | None,
    scale: float,
    pad_keys_attend: bool,
    window: int | None,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dq, dk, dv = (
        _empty_in_order(x, x.dtype) if want else x.new_empty((0,))
        for x, want in zip((q, k, v), wanted[:3], strict=True)
    )
    shape = bias.shape if bias is not None and wanted[3] else (0,)
    return dq, dk, dv, stats.new_empty(shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, block_length, bias, mask, *ctx.rest = inputs
    ctx.block_length = block_length
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(q, k, v, *output, bias, mask)


def _backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    q, k, v, out, stats, bias, mask = ctx.saved_tensors
    needs = ctx.needs_input_grad
    wanted = [*needs[:3], needs[4]]
    dq, dk, dv, dbias = (
        gradient if want else None
        for gradient, want in zip(
            _backward_op(
                _dense_rows(grad),
                q,
                k,
                v,
                out,
                stats,
                ctx.block_length,
                bias,
                mask,
                *ctx.rest,
                wanted,
            ),
            wanted,
            strict=True,
        )
    )
    return dq, dk, dv, None, dbias, None, None, None, None


_op = _shared.register_autograd("local_attention", _backward, _setup_context)
_backward_op = _shared.refuse_double_backward("local_attention")

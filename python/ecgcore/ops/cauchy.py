"""The Cauchy sum, plain and over conjugate pairs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ecgcore import _backend
from ecgcore.ops import _keops, _shared


def cauchy(v: Tensor, z: Tensor, w: Tensor, *, conjugate_pairs: bool = True) -> Tensor:
    r"""Cauchy sum over modes, evaluated at every node.

    .. math:: r_l = \sum_n \frac{v_n}{z_l - w_n} \left[ + \frac{\bar v_n}{z_l - \bar w_n} \right]

    The bracket is the other half of each conjugate pair, of which S4 stores one (Gu, Goel, Ré 2022,
    "Efficiently Modeling Long Sequences with Structured State Spaces", appendix C.3).

    Args:
        v: numerators, ``(..., N)`` complex64 or complex128, any ``N >= 1``.
        z: nodes, ``(L,)``, any complex numbers that hit no pole, same dtype.
        w: poles, ``(..., N)``, same dtype; leading dimensions of ``v`` and ``w`` broadcast.
        conjugate_pairs: add the conjugate partner of every term.

    Returns:
        ``(..., L)``, complex, of the inputs' dtype.

    Differentiable once in ``v``, ``w`` and ``z``, with torch's convention for complex gradients;
    only what is needed is computed. Memory: the output, no ``N x L`` temporaries. In complex64 a
    distance ``|z - w|`` must lie between 1e-18 and 1e18.

    Raises:
        TypeError: for arguments that are not tensors.
        ValueError: for wrong dtypes, shapes or devices.
    """
    for name, value in (("v", v), ("z", z), ("w", w)):
        _shared.check_tensor("cauchy", name, value)
    _shared.check_dtype("cauchy", "v", v, torch.complex64, torch.complex128)
    for name, value in (("z", z), ("w", w)):
        _shared.check_dtype("cauchy", name, value, v.dtype)
        _shared.check_device("cauchy", name, value, v.device)
    _shared.check_shape("cauchy", "z", z, "(L,)", (None,))
    if v.dim() < 1 or w.dim() < 1 or v.shape[-1] != w.shape[-1] or v.shape[-1] < 1:
        _shared.fail(
            "cauchy",
            "v and w must have shape (..., N) with the same N >= 1, "
            f"got {tuple(v.shape)} and {tuple(w.shape)}",
        )
    try:
        batch = torch.broadcast_shapes(v.shape[:-1], w.shape[:-1])
    except RuntimeError:
        _shared.fail(
            "cauchy",
            "leading dimensions of v and w must broadcast, "
            f"got {tuple(v.shape)} and {tuple(w.shape)}",
        )
    if _backend.current_backend() == "reference":
        return cauchy_reference(v, z, w, conjugate_pairs=conjugate_pairs)
    if _backend.current_backend() == "keops":
        return _keops.cauchy(v, z, w, conjugate_pairs)
    modes = v.shape[-1]
    rows_v = _shared.dense(v.expand(*batch, modes)).reshape(-1, modes)
    rows_w = _shared.dense(w.expand(*batch, modes)).reshape(-1, modes)
    out = _op(rows_v, _shared.dense(z), rows_w, conjugate_pairs)
    return out.reshape(*batch, z.shape[0])


def cauchy_reference(v: Tensor, z: Tensor, w: Tensor, *, conjugate_pairs: bool = True) -> Tensor:
    """The definition of :func:`cauchy` in plain torch: ``N x L`` memory, differentiable."""
    v, w = v.unsqueeze(-1), w.unsqueeze(-1)  # (..., N, 1)
    terms = v / (z - w)  # (..., N, L)
    if conjugate_pairs:
        terms = terms + v.conj() / (z - w.conj())
    return terms.sum(-2)  # (..., L)


@torch.library.register_fake("ecgcore::cauchy")
def _fake(v: Tensor, z: Tensor, w: Tensor, conjugate_pairs: bool) -> Tensor:
    return v.new_empty((v.shape[0], z.shape[0]))


@torch.library.register_fake("ecgcore::cauchy_backward")
def _fake_backward(
    grad: Tensor, v: Tensor, z: Tensor, w: Tensor, conjugate_pairs: bool, wanted: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    dv, dz, dw = (
        torch.empty_like(x) if want else x.new_empty((0,))
        for x, want in zip((v, z, w), wanted, strict=True)
    )
    return dv, dz, dw


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    v, z, w, ctx.conjugate_pairs = inputs
    ctx.save_for_backward(v, z, w)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    v, z, w = ctx.saved_tensors
    wanted = list(ctx.needs_input_grad[:3])
    grads = _backward_op(_shared.dense(grad), v, z, w, ctx.conjugate_pairs, wanted)
    return *(g if want else None for g, want in zip(grads, wanted, strict=True)), None


_op = _shared.register_autograd("cauchy", _backward, _setup_context)
_backward_op = _shared.refuse_double_backward("cauchy")

"""One sample through a discrete state space: what a state-space layer does when it streams."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ecgcore.ops import _shared

_NAMES = ("state", "u", "A", "B", "C", "P", "Q")


def ssm_step(
    state: Tensor,
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    P: Tensor | None = None,
    Q: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""The state after one more sample, and the outputs read off it.

    .. math:: x'_n = x_n + \Big(A_n x_n - \sum_r P_{rn}\, 2\,\mathrm{Re} \sum_m Q_{rm} x_m
        + B_n u\Big), \qquad y_c = 2\,\mathrm{Re} \sum_n C_{cn} x'_n

    One of each conjugate pair of modes is kept. The discrete state matrix is
    ``I + diag(A) - sum_r P_r Q_r^T``: the coefficients are those of what is *added* to the state,
    so that in single precision their rounding slows or speeds the state up by 6e-8 of its pace, and
    not by 6e-8 of itself in every sample. A bilinear step of S4 has this form with the low rank of
    the continuous matrix (Gu, Goel, Ré 2022, "Efficiently Modeling Long Sequences with Structured
    State Spaces", appendix C.2), S4D with none (Gu, Gupta, Goel, Ré 2022, "On the Parameterization
    and Initialization of Diagonal State Space Models").

    Args:
        state: ``(B, H, N)``, complex64 or complex128.
        u: the sample, ``(B, H)``, float32 or float64 as the others.
        A: diagonal of the discrete state matrix minus 1, ``(H, N)``.
        B: input vector, ``(H, N)``.
        C: output vectors, ``(C, H, N)``.
        P, Q: low-rank factors, both ``(R, H, N)`` or both left out.

    Returns:
        ``y (B, C, H)`` real, and the new state ``(B, H, N)``. The state given is left as it is.

    Differentiable once in everything; only the gradients needed are computed. Reads the state and
    the coefficients once, allocates nothing beside the results. The same bits for any number of
    threads.

    Raises:
        TypeError: for arguments that are not tensors.
        ValueError: for wrong dtypes, shapes or devices, and for only one of ``P`` and ``Q``.
    """
    if P is None or Q is None:
        if P is not Q:
            _shared.fail("ssm_step", "P and Q must be given together, or neither")
        P = Q = _no_rank(A)
    operands = (state, u, A, B, C, P, Q)
    if not _fit(*operands):
        _complain(operands)
    y, following = _op(*(_shared.dense(x) for x in operands))
    return y, following


def ssm_step_reference(
    state: Tensor,
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    P: Tensor | None = None,
    Q: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The definition of :func:`ssm_step` in plain torch: any order of derivative."""
    added = A * state + B * u.unsqueeze(-1)
    if P is not None and Q is not None:
        sums = 2 * torch.einsum("rhn,bhn->brh", Q, state).real
        added = added - torch.einsum("rhn,brh->bhn", P, sums.to(P.dtype))
    following = state + added
    return 2 * torch.einsum("chn,bhn->bch", C, following).real, following


def _no_rank(A: Tensor) -> Tensor:
    _shared.check_tensor("ssm_step", "A", A)
    return A.new_empty((0, *A.shape[-2:]))


def _fit(state: Tensor, u: Tensor, A: Tensor, B: Tensor, C: Tensor, P: Tensor, Q: Tensor) -> bool:
    """Whether everything is as it should be, found out in a microsecond: a step takes a few."""
    try:
        batch, H, N = state.shape
        dtype, device = state.dtype, state.device
        return (
            N >= 1
            and u.shape == (batch, H)
            and A.shape == B.shape == (H, N)
            and C.dim() == P.dim() == 3
            and C.shape[1:] == P.shape[1:] == A.shape
            and Q.shape == P.shape
            and u.dtype == _shared.REAL_OF[dtype]
            and A.dtype == B.dtype == C.dtype == P.dtype == Q.dtype == dtype
            and u.device == A.device == B.device == C.device == P.device == Q.device == device
        )
    except (AttributeError, KeyError, ValueError):  # no tensor, no complex dtype, not three axes
        return False


def _complain(operands: tuple[Tensor, ...]) -> None:
    """Say what :func:`_fit` found."""
    for name, value in zip(_NAMES, operands, strict=True):
        _shared.check_tensor("ssm_step", name, value)
    state, P = operands[0], operands[5]
    _shared.check_dtype("ssm_step", "state", state, torch.complex64, torch.complex128)
    _shared.check_shape("ssm_step", "state", state, "(B, H, N)", (None, None, None))
    batch, H, N = state.shape
    if N < 1:
        _shared.fail("ssm_step", f"state must have N >= 1 modes, got {tuple(state.shape)}")
    shapes: dict[str, tuple[str, tuple[int | None, ...]]] = {
        "u": ("(B, H)", (batch, H)),
        "A": ("(H, N)", (H, N)),
        "B": ("(H, N)", (H, N)),
        "C": ("(C, H, N)", (None, H, N)),
        "P": ("(R, H, N)", (None, H, N)),
        "Q": ("(R, H, N)", (P.shape[0] if P.dim() == 3 else None, H, N)),
    }
    for name, value in zip(_NAMES[1:], operands[1:], strict=True):
        dtype = _shared.REAL_OF[state.dtype] if name == "u" else state.dtype
        _shared.check_dtype("ssm_step", name, value, dtype)
        _shared.check_device("ssm_step", name, value, state.device)
        given = f"state {tuple(state.shape)}"
        _shared.check_feature_shape("ssm_step", name, value, *shapes[name], given)


@torch.library.register_fake("ecgcore::ssm_step")
def _fake(
    state: Tensor, u: Tensor, A: Tensor, B: Tensor, C: Tensor, P: Tensor, Q: Tensor
) -> tuple[Tensor, Tensor]:
    return u.new_empty((state.shape[0], C.shape[0], state.shape[1])), torch.empty_like(state)


@torch.library.register_fake("ecgcore::ssm_step_backward")
def _fake_backward(
    grad_y: Tensor,
    grad_next: Tensor,
    state: Tensor,
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    P: Tensor,
    Q: Tensor,
    next: Tensor,
    wanted: list[bool],
) -> tuple[Tensor, ...]:
    return tuple(
        torch.empty_like(x) if want else x.new_empty((0,))
        for x, want in zip((state, u, A, B, C, P, Q), wanted, strict=True)
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])


def _backward(ctx: Any, grad_y: Tensor, grad_next: Tensor) -> tuple[Tensor | None, ...]:
    wanted = list(ctx.needs_input_grad)
    grads = _backward_op(
        _shared.dense(grad_y), _shared.dense(grad_next), *ctx.saved_tensors, wanted
    )
    return tuple(g if want else None for g, want in zip(grads, wanted, strict=True))


_op = _shared.register_autograd("ssm_step", _backward, _setup_context)
_backward_op = _shared.refuse_double_backward("ssm_step")

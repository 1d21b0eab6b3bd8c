# SPDX-License-Identifier: MIT
"""Batch normalisation whose scale and offset are each sample's own, with its activation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ecgcore.ops import _shared

_ACTIVATIONS = (None, "relu", "leaky_relu", "tanh")


def conditional_batch_norm(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    *,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: str | None = None,
    negative_slope: float = 0.01,
) -> Tensor:
    r"""Normalise each feature over batch and time, then scale and shift each sample by its own.

    .. math:: y_{b,f,l} = a\!\left(\gamma_{b,f} \frac{x_{b,f,l} - \mu_f}{\sqrt{v_f + \epsilon}}
        + \beta_{b,f}\right)

    In training :math:`\mu, v` are the mean and the biased variance of ``x`` over batch and time,
    and the running statistics move towards them by ``momentum``, in place, the variance with its
    unbiased value, as ``torch.nn.BatchNorm1d`` does; otherwise they are the running statistics (de
    Vries et al. 2017, "Modulating early visual processing by language", section 3.1).

    Args:
        x: ``(B, F, L)``, float32 or float64, any ``L >= 1``.
        gamma: scale of every sample and feature, ``(B, F)``, dtype of ``x``.
        beta: offset, ``(B, F)``.
        running_mean: ``(F,)``, changed in training unless the batch is empty.
        running_var: ``(F,)``, likewise.
        training: normalise by the batch's own statistics.
        momentum: weight of the batch in the running statistics.
        eps: added to the variance.
        activation: ``None``, ``"relu"``, ``"leaky_relu"`` or ``"tanh"``.
        negative_slope: of ``"leaky_relu"``.

    Returns:
        Like ``x``.

    Differentiable once in ``x``, ``gamma`` and ``beta``; only what is needed is computed. Backward
    keeps ``x`` and what lies before the activation is computed again. Deterministic for any number
    of threads.

    Raises:
        TypeError: for arguments that are not tensors.
        ValueError: for wrong dtypes, shapes or devices, an unknown activation, and for a single
            value per feature in training.
    """
    _check(x, gamma, beta, running_mean, running_var, training, activation)
    y, statistics = _op(
        _shared.dense(x),
        _shared.dense(gamma),
        _shared.dense(beta),
        None if training else _shared.dense(running_mean),
        None if training else _shared.dense(running_var),
        eps,
        _ACTIVATIONS.index(activation),
        negative_slope,
    )
    if training and x.shape[0] > 0:
        mean, var, _ = statistics.unbind()
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(var, momentum)
    return y


def conditional_batch_norm_reference(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    *,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: str | None = None,
    negative_slope: float = 0.01,
) -> Tensor:
    """The definition of :func:`conditional_batch_norm` in plain torch."""
    y = F.batch_norm(x, running_mean, running_var, None, None, training, momentum, eps)
    y = gamma.unsqueeze(-1) * y + beta.unsqueeze(-1)
    if activation == "relu":
        return F.relu(y)
    if activation == "leaky_relu":
        return F.leaky_relu(y, negative_slope)
    return torch.tanh(y) if activation == "tanh" else y


def _check(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    activation: str | None,
) -> None:
    op = "conditional_batch_norm"
    _shared.check_tensor(op, "x", x)
    _shared.check_dtype(op, "x", x, torch.float32, torch.float64)
    _shared.check_shape(op, "x", x, "(B, F, L)", (None, None, None))
    B, features, L = x.shape
    _shared.check_length(op, L)
    of_x = x.dtype, x.device
    _shared.check_operand(op, "gamma", gamma, *of_x, "(B, F)", (B, features))
    _shared.check_operand(op, "beta", beta, *of_x, "(B, F)", (B, features))
    _shared.check_operand(op, "running_mean", running_mean, *of_x, "(F,)", (features,))
    _shared.check_operand(op, "running_var", running_var, *of_x, "(F,)", (features,))
    if activation not in _ACTIVATIONS:
        _shared.fail(
            op, f"activation must be None, 'relu', 'leaky_relu' or 'tanh', got {activation!r}"
        )
    if training and B * L == 1:
        _shared.fail(
            op,
            f"Expected more than 1 value per channel when training, got input size {x.shape}",
        )


@torch.library.register_fake("ecgcore::conditional_batch_norm")
def _fake(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    eps: float,
    activation: int,
    negative_slope: float,
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty((3, x.shape[1]))


@torch.library.register_fake("ecgcore::conditional_batch_norm_backward")
def _fake_backward(
    grad: Tensor,
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    statistics: Tensor,
    training: bool,
    activation: int,
    negative_slope: float,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    dx, dgamma, dbeta = (
        value.new_empty(value.shape if want else (0,))
        for value, want in zip((x, gamma, beta), wanted, strict=True)
    )
    return dx, dgamma, dbeta


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, gamma, beta, running_mean, _, _, ctx.activation, ctx.negative_slope = inputs
    statistics = output[1]
    ctx.mark_non_differentiable(statistics)
    ctx.training = running_mean is None
    ctx.save_for_backward(x, gamma, beta, statistics)


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    wanted = list(ctx.needs_input_grad[:3])
    grads = _backward_op(
        _shared.dense(grad),
        *ctx.saved_tensors,
        ctx.training,
        ctx.activation,
        ctx.negative_slope,
        wanted,
    )
    return *(g if want else None for g, want in zip(grads, wanted, strict=True)), *([None] * 5)


_op = _shared.register_autograd("conditional_batch_norm", _backward, _setup_context)
_backward_op = _shared.refuse_double_backward("conditional_batch_norm")

# SPDX-License-Identifier: MIT
"""Rows of the GANs' ops at the sizes of the reference's models, model size 50, and what they are
measured against: the torch calls that the reference systems make."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ecgcore import ops
from ecgcore.testing.cases import ConditionalBatchNormCase, cases
from measure import Row, Variant

ACTIVATIONS = {None: lambda x: x, "relu": F.relu, "tanh": torch.tanh, "leaky_relu": F.leaky_relu}


def grouped_pads(x: Tensor, shifts: Tensor) -> Tensor:
    """Phase shuffle by groups of samples with the same shift, each cut and padded on its own."""
    groups: dict[int, list[int]] = {}
    for sample, shift in enumerate(shifts.tolist()):
        groups.setdefault(shift, []).append(sample)
    out = x.clone()
    for shift, samples in groups.items():
        if shift > 0:
            out[samples] = F.pad(x[samples][..., :-shift], (shift, 0), mode="reflect")
        else:
            out[samples] = F.pad(x[samples][..., -shift:], (0, -shift), mode="reflect")
    return out


def four_calls(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    *,
    training: bool,
    activation: str | None,
) -> Tensor:
    """Batch norm, scale, offset, activation."""
    y = F.batch_norm(x, running_mean, running_var, training=training)
    return ACTIVATIONS[activation](gamma[:, :, None] * y + beta[:, :, None])


def upsample_then_convolve(x: Tensor, weight: Tensor, bias: Tensor, scale: int) -> Tensor:
    padding = weight.shape[-1] // 2
    repeated = F.interpolate(x, scale_factor=scale, mode="nearest") if scale > 1 else x
    return F.conv1d(F.pad(repeated, (padding, padding)), weight, bias)


def _row(
    case: Any, anchor: Any, name: str, slices: dict[str, int], inputs: dict[str, Any], task: str
) -> Row:
    own, truth = getattr(ops, case.op), getattr(ops.reference, case.op)
    variants = [Variant("ecgcore", own, inputs, truth), Variant(name, anchor, inputs, truth)]
    wrt = case.wrt if "backward" in task else ()
    return Row(case.op, f"{case} {case.note}", task, variants, wrt, slices)


def shuffle_rows(device: str) -> Iterable[Row]:
    for case in cases("phase_shuffle", "bench"):
        inputs = case.inputs(torch.float32, device)
        for task in ("forward", "forward + backward"):
            yield _row(case, grouped_pads, "grouped pads", {"x": 1}, inputs, task)


def norm_rows(device: str) -> Iterable[Row]:
    rows = {"x": 1, "gamma": 1, "beta": 1, "running_mean": 0, "running_var": 0}
    for case in cases("conditional_batch_norm", "bench"):
        assert isinstance(case, ConditionalBatchNormCase)
        inputs = case.inputs(torch.float32, device)
        inputs.pop("negative_slope")
        yield _row(case, four_calls, "four calls", rows, inputs, "training, forward + backward")
        inputs = {**inputs, "training": False}
        yield _row(case, four_calls, "four calls", rows, inputs, "eval, forward")


def upsample_rows(device: str) -> Iterable[Row]:
    slices = {"x": 1, "weight": 1}
    for case in cases("upsample_conv1d", "bench"):
        inputs = case.inputs(torch.float32, device)
        for task in ("forward", "forward + backward"):
            yield _row(case, upsample_then_convolve, "upsample, conv1d", slices, inputs, task)

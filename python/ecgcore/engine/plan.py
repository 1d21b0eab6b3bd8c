"""The compiled form of a denoiser: its weights laid out for one length, one rate, one precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ecgcore import ops
from ecgcore.engine.mixers import Setting, make_mixer
from ecgcore.engine.product import make_product
from ecgcore.engine.workspace import Workspace
from ecgcore.models.wavenet import Denoiser, GatedBlock
from ecgcore.nn.conv import WeightNormConv1d


@dataclass(frozen=True)
class Stream:
    """What goes from block to block, rows of features."""

    x: Tensor
    """``(B, L, R)``"""
    skip: Tensor
    """``(B, L, S)``, the sum of the skip outputs so far."""
    padded: Tensor
    """``(B, L + 2, R)``, ``x`` and the step's vector between two rows of zeros."""
    work: Workspace

    @property
    def neighbours(self) -> Tensor:
        """``(B, L, 3 R)``: rows ``l - 1``, ``l`` and ``l + 1`` of the padded signal side by side,
        without a copy."""
        (B, L, R), (batch, row, _) = self.x.shape, self.padded.stride()
        return self.padded.as_strided((B, L, 3 * R), (batch, row, 1))


class BlockPlan:
    """A :class:`~ecgcore.models.wavenet.GatedBlock`.

    Args:
        last: nobody reads the residual stream behind it: its convolution is left out.
    """

    def __init__(self, block: GatedBlock, setting: Setting, *, last: bool) -> None:
        conv, precision = block.conv_layer.conv, setting.precision
        self.width = conv.weight.shape[0]
        # Weight (N, C, 3) in the order of the neighbours' features.
        folded = conv.weight.permute(0, 2, 1).flatten(1)
        self.conv = make_product(folded, conv.bias, precision)
        self.first = make_mixer(block.get_submodule(block.first), setting)
        self.second = make_mixer(block.get_submodule(block.second), setting)
        ends = [block.skip_conv] if last else [block.res_conv, block.skip_conv]
        weight, bias = (torch.cat(parts) for parts in zip(*map(_pointwise, ends), strict=True))
        self.outputs = weight.shape[0]
        self.out = make_product(weight, bias, precision)
        self.last = last

    def __call__(
        self, stream: Stream, label: Tensor | None, next_step: Tensor | None, *, first: bool
    ) -> None:
        """Moves the stream on; ``next_step (1, R)`` is the next block's vector of the step."""
        work = stream.work
        h, gated = work.rows("h", self.width), work.rows("gated", self.width // 2)
        self.conv(stream.neighbours, h, work)
        self.first(h, h, work, shift=label)
        self.second(h, gated, work, gate=True)
        if self.last:
            self.out(gated, stream.skip, work, accumulate=not first)
            return
        rs = work.rows("mapped", self.outputs)  # nobody needs the second mixer's any more
        self.out(gated, rs, work)
        ops.residual_update(
            rs, stream.x, stream.skip, padded=stream.padded, step=next_step, first=first
        )


class Plan:
    """A :class:`~ecgcore.models.wavenet.Denoiser` for signals of one length.

    Weight norm is carried out, the kernels' spectra are made, weights lie as the products want
    them; what depends on labels and times is left to :class:`PlanEvaluation`.
    """

    def __init__(self, model: Denoiser, setting: Setting) -> None:
        parts: Any = model
        blocks: list[GatedBlock] = list(parts.residual_layer.residual_blocks)
        precision = setting.precision
        self.setting, self.shape = setting, (model.in_channels, model.out_channels)
        weight, bias = _pointwise(parts.init_conv[0].conv)
        self.res_channels = weight.shape[0]
        self.enter = make_product(weight, bias, precision)
        self.blocks = [
            BlockPlan(block, setting, last=n == len(blocks) - 1) for n, block in enumerate(blocks)
        ]
        weight, bias = _pointwise(parts.final_conv[0].conv)
        self.skip_channels = weight.shape[0]
        # The mean over the blocks goes into the map that reads their sum.
        self.middle = make_product(weight * math.sqrt(1 / len(blocks)), bias, precision)
        weight, bias = _pointwise(parts.final_conv[2].conv)
        self.leave = make_product(weight, bias, precision)


class PlanEvaluation:
    """``evaluation(i, x)``: the noise predicted in ``x`` at the ``i``-th of the times.

    Args:
        plan: of the model.
        model: embeds labels and times, now and never again.
        labels: ``(B, classes)`` or ``None``.
        times: of the evaluations to come.
        batch: ``B``.
    """

    def __init__(
        self,
        plan: Plan,
        model: Denoiser,
        labels: Tensor | None,
        times: Sequence[float],
        batch: int,
        device: torch.device,
    ) -> None:
        self.plan = plan
        length, dtype = plan.setting.length, plan.setting.dtype
        group = model.residual_layer
        step = group.embed_steps(torch.tensor(list(times), device=device, dtype=dtype))
        blocks: list[GatedBlock] = list(group.residual_blocks)  # type: ignore[arg-type]
        # (K, blocks, R), and each block's (B, 2 R).
        self.steps = torch.stack([block.fc_t(step) for block in blocks], dim=1)
        self.labels = _label_vectors(model, blocks, labels, batch)
        self.step = self.steps.new_empty((1, *self.steps.shape[1:]))

        def zeros(rows: int, features: int) -> Tensor:
            return torch.zeros((batch, rows, features), dtype=dtype, device=device)

        R, S = plan.res_channels, plan.skip_channels
        work = Workspace(batch, length, dtype, device)
        self.stream = Stream(zeros(length, R), zeros(length, S), zeros(length + 2, R), work)
        inward, outward = plan.shape
        self.inward, self.outward = zeros(length, inward), zeros(length, outward)
        self.eps = self.outward.new_empty((batch, outward, length))

    @torch.no_grad()
    def __call__(self, i: Tensor, x: Tensor) -> Tensor:
        """``i`` int64 ``(1,)`` and ``x (B, channels, L)``, on the plan's device. The result,
        ``(B, channels, L)``, is valid until the next call."""
        expected = (*self.inward.shape[::2], self.inward.shape[1])
        if x.shape != expected or x.dtype != self.eps.dtype:
            raise ValueError(
                f"engine: x must be {self.eps.dtype} of shape {expected}, "
                f"got {x.dtype} {tuple(x.shape)}"
            )
        plan, stream = self.plan, self.stream
        torch.index_select(self.steps, 0, i, out=self.step)
        self.inward.copy_(x.transpose(1, 2))
        plan.enter(self.inward, stream.x, stream.work, relu=True)
        torch.add(stream.x, self.step[:, :1], out=stream.padded[:, 1:-1])
        for n, block in enumerate(plan.blocks):
            next_step = None if block.last else self.step[:, n + 1]
            block(stream, self.labels[n], next_step, first=n == 0)
        hidden = stream.work.rows("gated", plan.skip_channels)
        plan.middle(stream.skip, hidden, stream.work, relu=True)
        plan.leave(hidden, self.outward, stream.work)
        self.eps.copy_(self.outward.transpose(1, 2))
        return self.eps


def _label_vectors(
    model: Denoiser, blocks: Sequence[GatedBlock], labels: Tensor | None, batch: int
) -> list[Tensor | None]:
    """Each block's vectors ``(B, 2 R)``, or what stands for none.

    On a CPU record by record: the bits of a row of torch's products depend on the rows beside it.
    """
    embedded = model.embed_label(labels, batch)
    if embedded is None or labels is None:
        return [None] * len(blocks)
    rows = labels.split(1 if labels.device.type == "cpu" else batch)
    parts = [model.embed_label(row, len(row)) for row in rows]
    return [
        None if block.fc_label is None else torch.cat([block.fc_label(part) for part in parts])
        for block in blocks
    ]


def _pointwise(conv: WeightNormConv1d | torch.nn.Conv1d) -> tuple[Tensor, Tensor]:
    """Weight ``(N, K)`` and bias of a convolution of width 1."""
    assert conv.bias is not None
    return conv.weight[..., 0], conv.bias

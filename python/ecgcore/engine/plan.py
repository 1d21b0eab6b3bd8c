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
from ecgcore.engine.product import make_convolution, make_product
from ecgcore.engine.workspace import Workspace
from ecgcore.models.wavenet import Denoiser, GatedBlock
from ecgcore.nn.conv import WeightNormConv1d

ROWS_A_THREAD = 1000
"""A record of 10 s for each thread."""


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

    def first(self, batch: int) -> Stream:
        """The same memory, for fewer records."""
        parts = (self.x[:batch], self.skip[:batch], self.padded[:batch])
        return Stream(*parts, self.work.first(batch))


class BlockPlan:
    """A :class:`~ecgcore.models.wavenet.GatedBlock`.

    Args:
        last: nobody reads the residual stream behind it: its convolution is left out.
    """

    def __init__(self, block: GatedBlock, setting: Setting, *, last: bool) -> None:
        conv, precision = block.conv_layer.conv, setting.precision
        self.width = conv.weight.shape[0]
        self.conv = make_convolution(conv.weight, conv.bias, precision)
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
        self.conv(stream.padded, h, work)
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


@dataclass(frozen=True)
class Group:
    """Records that go through the plan together."""

    records: slice
    stream: Stream
    labels: Sequence[Tensor | None]
    """Each block's vectors ``(records, 2 R)``."""


class PlanEvaluation:
    """``evaluation(i, x)``: the noise predicted in ``x`` at the ``i``-th of the times.

    On a CPU a few records at a time go through the plan, as many as give every thread something to
    do: the memory of a step is theirs, whatever the batch.

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
        self.steps = torch.stack([block.fc_t(step) for block in blocks], dim=1)  # (K, blocks, R)
        self.step = self.steps.new_empty((1, *self.steps.shape[1:]))
        size = max(1, min(batch, records_at_once(length) if device.type == "cpu" else batch))

        def zeros(rows: int, features: int) -> Tensor:
            return torch.zeros((size, rows, features), dtype=dtype, device=device)

        R, S = plan.res_channels, plan.skip_channels
        work = Workspace(size, length, dtype, device)
        stream = Stream(zeros(length, R), zeros(length, S), zeros(length + 2, R), work)
        rest = stream.first(batch % size)
        vectors = _label_vectors(model, blocks, labels, batch)
        self.groups = [
            Group(
                slice(begin, begin + size),
                stream if begin + size <= batch else rest,
                [None if rows is None else rows[begin : begin + size] for rows in vectors],
            )
            for begin in range(0, batch, size)
        ]
        self.eps = self.steps.new_empty((batch, plan.shape[1], length))
        self.expected = (batch, plan.shape[0], length)

    @torch.no_grad()
    def __call__(self, i: Tensor, x: Tensor) -> Tensor:
        """``i`` int64 ``(1,)`` and ``x (B, channels, L)``, on the plan's device. The result,
        ``(B, channels, L)``, is valid until the next call."""
        if x.shape != self.expected or x.dtype != self.eps.dtype:
            raise ValueError(
                f"engine: x must be {self.eps.dtype} of shape {self.expected}, "
                f"got {x.dtype} {tuple(x.shape)}"
            )
        torch.index_select(self.steps, 0, i, out=self.step)
        for group in self.groups:
            self._predict(group, x[group.records], self.eps[group.records])
        return self.eps

    def _predict(self, group: Group, x: Tensor, eps: Tensor) -> None:
        plan, stream, work = self.plan, group.stream, group.stream.work
        inward, outward = (
            work.rows(name, channels)
            for name, channels in zip(("inward", "outward"), plan.shape, strict=True)
        )
        inward.copy_(x.transpose(1, 2))
        plan.enter(inward, stream.x, work, relu=True)
        torch.add(stream.x, self.step[:, :1], out=stream.padded[:, 1:-1])
        for n, block in enumerate(plan.blocks):
            next_step = None if block.last else self.step[:, n + 1]
            block(stream, group.labels[n], next_step, first=n == 0)
        hidden = work.rows("gated", plan.skip_channels)
        plan.middle(stream.skip, hidden, work, relu=True)
        plan.leave(hidden, outward, work)
        eps.copy_(outward.transpose(1, 2))


def records_at_once(length: int) -> int:
    """So many that each of the CPU's threads has about ``ROWS_A_THREAD`` rows: with fewer it waits
    for the others, with more the rows leave the caches."""
    return math.ceil(ROWS_A_THREAD * torch.get_num_threads() / max(length, 1))


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

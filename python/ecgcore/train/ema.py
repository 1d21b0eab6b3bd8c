"""Exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """Averaged copies of the trainable parameters, ``average = d average + (1 - d) weight`` after
    each step.

    The decay rises as ``d = min(decay, (1 + k) / (10 + k))`` with the number ``k`` of updates made,
    so that the average forgets the initial weights (Tarvainen & Valpola, 2017, use the same idea).
    Buffers are not averaged. ``weights`` names the parameters to average, where those are not all
    of the model's.
    """

    def __init__(
        self, model: nn.Module, decay: float, weights: Mapping[str, nn.Parameter] | None = None
    ) -> None:
        self.decay = decay
        self.updates = 0
        named = dict(model.named_parameters()) if weights is None else weights
        self._weights = [(n, p) for n, p in named.items() if p.requires_grad]
        self._average = [p.detach().clone() for _, p in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._average, [p.detach() for _, p in self._weights], 1 - decay)
        self.updates += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the model holds the averaged weights; after it, bit for bit, its own
        again.
        """
        own = [p.detach().clone() for _, p in self._weights]
        self._copy(self._average)
        try:
            yield
        finally:
            self._copy(own)

    def copy_to_model(self) -> None:
        """Give the model the averaged weights for good."""
        self._copy(self._average)

    @torch.no_grad()
    def _copy(self, values: list[Tensor]) -> None:
        for (_, parameter), value in zip(self._weights, values, strict=True):
            parameter.copy_(value)

    def state_dict(self) -> dict[str, Tensor | int]:
        named = {n: a for (n, _), a in zip(self._weights, self._average, strict=True)}
        return {"updates": self.updates, **named}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        self.updates = int(state["updates"])
        for (name, _), average in zip(self._weights, self._average, strict=True):
            average.copy_(torch.as_tensor(state[name]))

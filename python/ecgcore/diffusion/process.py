"""The reverse process on buffers that stay in place, so that a step can be captured and replayed.

All that changes from step to step is on the device: the signals, and the number ``i`` of the
evaluation, by which coefficients, times and the numbers of draws are looked up. A step is the same
sequence of operations on the same memory each time, which is what a CUDA graph needs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ecgcore.diffusion.noise import KEPT, RecordNoise
from ecgcore.diffusion.solvers import Table
from ecgcore.engine import Evaluation


class Process:
    """Runs a sampler's table: ``begin``, then ``evaluate`` and ``update`` for each of its times,
    then ``end``. Between the two the step's input and output stand in ``x`` and ``eps``.

    Noise of a :class:`RecordNoise` is made inside the step. Without one the caller fills ``fresh``
    before an update that adds noise, and ``kept_noise`` before an evaluation, if something is kept.

    Attributes:
        i: int64 ``(1,)``, number of the evaluation.
        x: the signals ``(B, channels, L)``.
        eps: the noise predicted in them.
        fresh: noise that the update adds.
        kept_noise: noise for the part that is kept.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        table: Table,
        shape: tuple[int, int, int],
        *,
        device: torch.device,
        dtype: torch.dtype,
        noise: RecordNoise | None = None,
        guidance: float = 1.0,
        known: Tensor | None = None,
        mask: Tensor | None = None,
    ):
        """
        Args:
            evaluation: what ``engine.prepare`` gives for the table's times; for a guidance other
                than 1, of a batch of ``2 B``: as asked for, then without class.
            known, mask: signals, and where they are kept, ``(B, channels, L)`` on the device.
        """
        self._evaluation = evaluation
        self._table = table
        self._record_noise = noise
        self._guidance = guidance
        self._known, self._mask = known, mask
        # Columns of one evaluation, to be multiplied with signals: a, b, c, d of the update, data
        # from x and eps, and the levels of signal and noise.
        columns = (
            table.x, table.eps, table.data, table.noise,
            1 / table.alpha, -table.sigma / table.alpha, table.alpha, table.sigma,
        )  # fmt: skip
        self._columns = torch.stack(columns).to(device, dtype)

        self.i = torch.zeros(1, dtype=torch.int64, device=device)
        self._draw = torch.zeros_like(self.i)
        guided = guidance != 1.0
        self._input = torch.zeros(
            ((2 if guided else 1) * shape[0], *shape[1:]), dtype=dtype, device=device
        )
        self.x = self._input[: shape[0]]
        self._twin = self._input[shape[0] :]
        self.eps = torch.zeros_like(self.x)
        self.fresh = torch.zeros_like(self.x if table.stochastic else self.x[:0])
        self.kept_noise = torch.zeros_like(self.x if mask is not None else self.x[:0])
        history = self.x if table.multistep else self.x[:0]
        self._data, self._data_before = torch.zeros_like(history), torch.zeros_like(history)

    def begin(self, x: Tensor) -> None:
        """Start, or start again, from ``x`` at the table's first time."""
        self.x.copy_(x)
        self._data_before.zero_()
        self.i.zero_()

    def evaluate(self) -> None:
        """Predict the noise in ``x``, after what is kept was put into it at its level.

        The kept part of ``x`` is drawn from the forward process anew at each level, and the rest
        is generated beside it: Lugmayr et al., "RePaint" (2022), without its resampling.
        """
        if self._known is not None and self._mask is not None:
            alpha, sigma = self._columns[6:].index_select(1, self.i)
            if self._record_noise is not None:
                self._record_noise.into(self.kept_noise, torch.add(self.i, KEPT, out=self._draw))
            noised = self.kept_noise.mul_(sigma).addcmul_(self._known, alpha)
            torch.where(self._mask, noised, self.x, out=self.x)
        self._twin.copy_(self.x[: len(self._twin)])
        eps = self._evaluation(self.i, self._input)
        if len(self._twin):
            # eps_0 + w (eps_c - eps_0): Ho, Salimans, "Classifier-Free Diffusion Guidance" (2022).
            asked, free = eps.split(len(self.x))
            torch.lerp(free, asked, self._guidance, out=self.eps)
        else:
            self.eps.copy_(eps)

    def update(self) -> None:
        """Go on to the next time by the table's linear update, and count."""
        a, b, c, d, data_x, data_eps, _, _ = self._columns.index_select(1, self.i)
        if self._table.multistep:
            torch.mul(self.x, data_x, out=self._data).addcmul_(self.eps, data_eps)
        self.x.mul_(a).addcmul_(self.eps, b)
        if self._table.multistep:
            self.x.addcmul_(self._data_before, c)
            self._data_before.copy_(self._data)
        if self._table.stochastic:
            if self._record_noise is not None:
                number = torch.add(self.i, self._table.first_draw, out=self._draw)
                self._record_noise.into(self.fresh, number)
            self.x.addcmul_(self.fresh, d)
        self.i.add_(1)

    def end(self) -> Tensor:
        """The signals after the last update, what was to be kept exactly as given."""
        if self._known is None or self._mask is None:
            return self.x.clone()
        return torch.where(self._mask, self._known, self.x)

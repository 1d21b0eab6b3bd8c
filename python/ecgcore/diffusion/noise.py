"""Where the noise of a reverse process comes from.

Draws have numbers: 0 is ``x_T``, then one for each step that adds noise, in order. What is kept in
inpainting is noised by draws of its own, ``KEPT + k`` at evaluation ``k``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ecgcore import random

KEPT = 2**31
"""Number of the draw that noises the kept part at the first evaluation. No schedule has so many
steps, so these draws share none with the others of the record."""

Noise = Callable[[int], Tensor]
"""``noise(k) -> (B, channels, L)``: draw ``k``, where draw 0 is ``x_T``."""


@dataclass(frozen=True, eq=False)
class RecordNoise:
    """Noise that depends on ``(seed, record, draw)`` alone (``ecgcore.random``), so that a record
    comes out again in any batch; made where the signals are, inside the step.
    """

    seed: int
    """0 to 2^64 - 1"""
    records: Sequence[int] | Tensor
    """number of each record of the batch; int64 ``(B,)`` if a tensor"""

    def on(self, device: torch.device) -> RecordNoise:
        """The same with the records' numbers on ``device``, so that nothing is moved in a step."""
        return RecordNoise(self.seed, torch.as_tensor(self.records, dtype=torch.int64).to(device))

    def into(self, out: Tensor, draw: Tensor) -> None:
        """Fill ``out (B, channels, L)`` with the draw whose number is in ``draw``, int64 ``(1,)``
        on the same device."""
        out.copy_(
            random.normal(
                out.shape[1:],
                seed=self.seed,
                records=self.records,
                draw=int(draw),
                device=out.device,
                dtype=out.dtype,
            )
        )


def host_noise(
    shape: tuple[int, int, int],
    draws: int,
    kept: int,
    generator: torch.Generator | None,
    noise: Tensor | Noise | None,
) -> Noise:
    """Draws by number, from a generator, a function or a tensor that holds them.

    Args:
        shape: of a draw.
        draws: how many draws there are, ``x_T`` among them.
        kept: how many draws there are for what is kept.

    Raises:
        ValueError: a generator that is not on the CPU, or a shape that does not fit; for a function
            when it is called.
    """
    if callable(noise):
        return _checked(noise, shape)
    if noise is not None:
        given = noise
        if tuple(given.shape) != (draws + kept, *shape):
            raise ValueError(
                f"diffusion.sample: noise must have shape {(draws + kept, *shape)}, "
                f"got {tuple(given.shape)}"
            )
        return lambda k: given[k if k < KEPT else draws + k - KEPT]
    if generator is not None and generator.device.type != "cpu":
        raise ValueError(f"diffusion.sample: generator must be on the CPU, got {generator.device}")
    return lambda k: torch.randn(shape, generator=generator)


def _checked(noise: Noise, shape: tuple[int, int, int]) -> Noise:
    def draw(k: int) -> Tensor:
        made = noise(k)
        if tuple(made.shape) != shape:
            raise ValueError(
                f"diffusion.sample: noise({k}) must have shape {shape}, got {tuple(made.shape)}"
            )
        return made

    return draw

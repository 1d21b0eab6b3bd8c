"""From a denoiser to what a sampler calls at every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Evaluation = Callable[[Tensor, Tensor], Tensor]
"""``evaluation(i, x) -> eps``: the noise predicted in ``x (B, channels, L)`` at the ``i``-th of the
times that were prepared, ``i`` int64 ``(1,)`` on the device of ``x``, so that a captured step can
be replayed. The result is valid until the next call."""

PRECISIONS = ("fp32", "bf16")


def prepare(
    model: Callable[..., Any],
    labels: Tensor | None,
    times: Sequence[float],
    shape: tuple[int, int, int],
    *,
    device: torch.device,
    dtype: torch.dtype,
    precision: str = "fp32",
    rate: float = 1.0,
) -> Evaluation:
    """What depends on labels and times alone is computed here, once.

    Args:
        model: predicts the noise, ``model(x, labels, steps)``.
        labels: class weights ``(B, classes)`` on ``device``; ``None`` for a model without classes.
        times: the 0-based diffusion steps that will be asked for.
        shape: ``(B, channels, L)``.
        device, dtype: of the signals.
        precision: of the matrix products, ``"fp32"`` or ``"bf16"``.
        rate: step of the samples in units of the one the model was trained with.

    Raises:
        ValueError: for another precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"engine.prepare: precision must be one of {', '.join(PRECISIONS)}, got {precision!r}"
        )
    steps = torch.tensor(list(times), device=device, dtype=dtype)

    def evaluate(i: Tensor, x: Tensor) -> Tensor:
        eps: Tensor = model(x, labels, steps.index_select(0, i).expand(shape[0]).unsqueeze(1))
        return eps

    return evaluate

"""For tests of recurrences: a module run sample by sample, and the convolution to hold it to."""

from __future__ import annotations

from typing import Any

import torch

from ecgcore.nn.recurrence import MODES
from support import recorded, recorded_names

__all__ = ["MODES", "convolved", "having", "run"]


def having(entry: str, *patterns: str) -> list[str]:
    """The recordings that hold ``entry``; all of them where there are none to look into."""
    names = recorded_names(*patterns)
    if names == list(patterns):
        return names
    return [name for name in names if any(key.startswith(entry) for key in recorded(name).arrays)]


def run(module: Any, u: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``u (B, H, T)`` sample by sample: outputs stacked along the last axis, and the last state."""
    outputs = []
    for sample in u.unbind(-1):
        y, state = module.step(sample, state)
        outputs.append(y)
    return torch.stack(outputs, -1), state


def convolved(K: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """``K (C, H, L)`` with ``u (B, H, T)``, causal, in double precision: ``(B, C, H, T)``."""
    K, u, T = K.detach().double(), u.double(), u.shape[-1]
    n = T + K.shape[-1]
    return torch.fft.irfft(torch.fft.rfft(K, n) * torch.fft.rfft(u, n)[:, None], n)[..., :T]

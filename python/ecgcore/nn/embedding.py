"""The diffusion step as a vector of sines and cosines."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def diffusion_step_embedding(steps: Tensor, dim: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """``[sin(t f), cos(t f)]`` with ``f_j = exp(-j ln(10000) / (dim/2 - 1))``.

    Kong et al., "DiffWave" (2021), section 3.1, after Vaswani et al. (2017).

    Args:
        steps: 0-based diffusion steps, ``(B,)`` or ``(B, 1)``, integer or floating.
        dim: width, even and at least 4.
        dtype: of the result and of the arithmetic.

    Returns:
        ``(B, dim)``.

    Raises:
        ValueError: for another shape or width.
    """
    if dim % 2 or dim < 4:
        raise ValueError(f"diffusion_step_embedding: dim must be even and >= 4, got {dim}")
    if steps.dim() not in (1, 2) or (steps.dim() == 2 and steps.shape[1] != 1):
        raise ValueError(
            f"diffusion_step_embedding: steps must be (B,) or (B, 1), got {tuple(steps.shape)}"
        )
    half = dim // 2
    j = torch.arange(half, device=steps.device, dtype=dtype)
    frequency = torch.exp(j * -(math.log(10000) / (half - 1)))
    phase = steps.reshape(-1, 1).to(dtype) * frequency
    return torch.cat([torch.sin(phase), torch.cos(phase)], dim=1)

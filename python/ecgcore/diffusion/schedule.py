"""The noise schedule of a diffusion model, as one frozen object."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    r"""Variances of the forward process ``x_t = sqrt(alpha_bar_t) x + sqrt(1 - alpha_bar_t) z``.

    Ho, Jain, Abbeel, "Denoising Diffusion Probabilistic Models" (2020). All tensors are float32
    ``(T,)`` on the CPU, index 0 is the least noise.
    """

    T: int
    """number of steps"""
    beta: Tensor
    """variance added at each step"""
    alpha: Tensor
    """``1 - beta``"""
    alpha_bar: Tensor
    """running product of ``alpha``"""
    sigma: Tensor
    """standard deviation of the noise that the reverse step ``t`` adds, the posterior's"""

    @classmethod
    def linear(cls, T: int = 200, beta_0: float = 1e-4, beta_T: float = 0.02) -> NoiseSchedule:
        """``beta`` rises linearly from ``beta_0`` to ``beta_T``.

        Every number is rounded to float32 in the order in which the reference computes it, so that
        its trajectories come out again.

        Raises:
            TypeError: where ``T`` is no integer.
            ValueError: for ``T < 1`` or betas outside ``(0, 1)``.
        """
        if isinstance(T, bool) or not isinstance(T, int):
            raise TypeError(f"NoiseSchedule.linear: T must be an integer, got {T!r}")
        if T < 1:
            raise ValueError(f"NoiseSchedule.linear: T must be at least 1, got {T}")
        for name, value in (("beta_0", beta_0), ("beta_T", beta_T)):
            if not (math.isfinite(value) and 0 < value < 1):
                raise ValueError(f"NoiseSchedule.linear: {name} must lie in (0, 1), got {value}")
        beta = torch.linspace(beta_0, beta_T, T, dtype=torch.float32)
        alpha = 1 - beta
        # numpy multiplies strictly one by one in float32; torch.cumprod sums up in double.
        alpha_bar = torch.from_numpy(np.multiply.accumulate(alpha.numpy()))
        posterior = beta.clone()
        posterior[1:] *= (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:])
        # numpy's square root is the nearest number. Torch's, by MKL, depends on the processor.
        sigma = torch.from_numpy(np.sqrt(posterior.numpy()))
        return cls(T, beta, alpha, alpha_bar, sigma)

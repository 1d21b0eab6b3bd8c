"""The buffers of an evaluation: made when first asked for, then always the same."""

from __future__ import annotations

import torch
from torch import Tensor


class Workspace:
    """Tensors by name and shape, most of them rows of features ``(B, L, F)``.

    Args:
        batch: ``B``.
        length: ``L``.
        dtype, device: of the rows.
    """

    def __init__(self, batch: int, length: int, dtype: torch.dtype, device: torch.device) -> None:
        self.batch, self.length, self.dtype, self.device = batch, length, dtype, device
        self._made: dict[tuple[str, tuple[int, ...], torch.dtype], Tensor] = {}

    def rows(self, name: str, features: int, dtype: torch.dtype | None = None) -> Tensor:
        """``(B, L, features)``, holding what was last written there."""
        return self.tensor(name, (self.batch, self.length, features), dtype)

    def tensor(self, name: str, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
        """Likewise, of any shape."""
        key = (name, shape, dtype or self.dtype)
        if key not in self._made:
            # A buffer outlives the mode of the first step, whatever that was.
            with torch.inference_mode(False):
                self._made[key] = torch.empty(shape, dtype=key[2], device=self.device)
        return self._made[key]

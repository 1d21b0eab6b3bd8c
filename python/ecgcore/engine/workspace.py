"""The buffers of an evaluation: made when first asked for, then always the same."""

from __future__ import annotations

import torch
from torch import Tensor


class Workspace:
    """Rows of features ``(B, L, F)`` by name and width.

    Args:
        batch: ``B``.
        length: ``L``.
        dtype, device: of the rows.
    """

    def __init__(self, batch: int, length: int, dtype: torch.dtype, device: torch.device) -> None:
        self.batch, self.length, self.dtype, self.device = batch, length, dtype, device
        self._rows: dict[tuple[str, int, torch.dtype], Tensor] = {}

    def rows(self, name: str, features: int, dtype: torch.dtype | None = None) -> Tensor:
        """Whatever was last written there."""
        key = (name, features, dtype or self.dtype)
        if key not in self._rows:
            # A buffer outlives the mode of the first step, whatever that was.
            with torch.inference_mode(False):
                self._rows[key] = torch.empty(
                    (self.batch, self.length, features), dtype=key[2], device=self.device
                )
        return self._rows[key]

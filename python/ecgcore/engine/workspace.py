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
        lender: of the memory, a workspace for as many records or more.
    """

    def __init__(
        self,
        batch: int,
        length: int,
        dtype: torch.dtype,
        device: torch.device,
        lender: Workspace | None = None,
    ) -> None:
        self.batch, self.length, self.dtype, self.device = batch, length, dtype, device
        self._lender = lender
        self._made: dict[tuple[str, tuple[int, ...], torch.dtype], Tensor] = {}

    def first(self, batch: int) -> Workspace:
        """The same memory, for fewer records."""
        return Workspace(batch, self.length, self.dtype, self.device, self)

    def rows(self, name: str, features: int, dtype: torch.dtype | None = None) -> Tensor:
        """``(B, L, features)``, holding what was last written there."""
        return self.tensor(name, (self.length, features), dtype)

    def tensor(self, name: str, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
        """``(B, *shape)``, likewise."""
        key = (name, shape, dtype or self.dtype)
        if key not in self._made:
            # A buffer outlives the mode of the first step, whatever that was.
            with torch.inference_mode(False):
                self._made[key] = (
                    torch.empty((self.batch, *shape), dtype=key[2], device=self.device)
                    if self._lender is None
                    else self._lender.tensor(*key)[: self.batch]
                )
        return self._made[key]

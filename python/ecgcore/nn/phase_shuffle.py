"""Random shifts between the layers of a critic."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ecgcore import ops


class PhaseShuffle(nn.Module):
    """Moves every record by its own random number of samples, mirrored at the ends.

    Donahue, McAuley, Puckette, "Adversarial audio synthesis" (2019), section 3.3. It moves in
    ``eval()`` too.

    Args:
        n: largest shift, either way; 0 moves nothing and draws nothing.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        if n < 0:
            raise ValueError(f"PhaseShuffle: n must be at least 0, got {n}")
        self.n = n

    def draw(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """Shifts ``(batch,)`` int64, uniform in ``-n .. n``, on the CPU.

        From ``generator``, by default torch's; as the reference draws them, so that seeds agree.
        """
        if self.n == 0:
            return torch.zeros(batch, dtype=torch.int64, device="cpu")
        draws = torch.empty(batch, device="cpu").random_(0, 2 * self.n + 1, generator=generator)
        return draws.long() - self.n

    def forward(self, x: Tensor, shifts: Tensor | None = None) -> Tensor:
        """``y[b, c, i] = x[b, c, reflect(i - shifts[b])]``.

        Args:
            x: ``(B, C, L)``, ``L > n``.
            shifts: ``(B,)`` int64; drawn if not given. Positive ones move to the right.
        """
        if shifts is None:
            if self.n == 0:
                return x
            shifts = self.draw(x.shape[0])
        return ops.phase_shuffle(x, shifts.to(x.device))

    def extra_repr(self) -> str:
        return f"n={self.n}"

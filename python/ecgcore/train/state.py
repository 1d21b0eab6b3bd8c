"""Everything a run changes while it goes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ecgcore.errors import CheckpointError
from ecgcore.train.ema import EMA


@dataclass
class TrainState:
    """Weights, optimiser, averaged weights, the number of steps made, and what the next log line
    will say.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: EMA | None = None
    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    """Losses of the steps since the last line of the log."""

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "losses": list(self.losses),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        try:
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            if self.average is not None:
                self.average.load_state_dict(saved["average"])
            self.step, self.seconds = saved["step"], saved["seconds"]
            self.losses = list(saved["losses"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"the saved training state does not fit the model: {error}"
            ) from error

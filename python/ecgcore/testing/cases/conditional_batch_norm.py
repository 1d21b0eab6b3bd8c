"""Cases of ``conditional_batch_norm``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ecgcore.testing.cases.base import Case, Draw


@dataclass(frozen=True, kw_only=True)
class ConditionalBatchNormCase(Case):
    """``x (B, F, L)`` whose features have means and deviations of their own; ``offset`` moves all
    means away from zero."""

    op: ClassVar[str] = "conditional_batch_norm"
    B: int
    F: int
    L: int
    training: bool = True
    activation: str | None = None
    negative_slope: float = 0.01
    offset: float = 0.0

    @property
    def name(self) -> str:
        words = [f"B{self.B}_F{self.F}_L{self.L}", "train" if self.training else "eval"]
        words += [self.activation or ""] + [f"offset{self.offset:g}"] * (self.offset != 0)
        return "_".join(filter(None, words))

    @property
    def wrt(self) -> tuple[str, ...]:
        return ("x", "gamma", "beta")

    def draw(self, draw: Draw) -> dict[str, Any]:
        deviation = draw.uniform(0.2, 3.0, self.F)
        mean = draw.normal(self.F) + self.offset
        noise = draw.normal(self.B, self.F, self.L)
        return {
            "x": noise * deviation[:, None] + mean[:, None],
            "gamma": 1 + 0.5 * draw.normal(self.B, self.F),
            "beta": 0.5 * draw.normal(self.B, self.F),
            "running_mean": mean + 0.1 * draw.normal(self.F),
            "running_var": deviation**2 * draw.uniform(0.8, 1.2, self.F),
            "training": self.training,
            "activation": self.activation,
            "negative_slope": self.negative_slope,
        }


def _norm(B: int, F: int, L: int, *tags: str, **options: Any) -> ConditionalBatchNormCase:
    return ConditionalBatchNormCase(B=B, F=F, L=L, tags=frozenset(tags), **options)


CONDITIONAL_BATCH_NORM = (
    _norm(3, 2, 1, "gradcheck"),
    _norm(2, 3, 5, "gradcheck", activation="leaky_relu", negative_slope=0.2),
    _norm(3, 2, 4, "gradcheck", "quick", activation="tanh"),
    _norm(2, 2, 3, "gradcheck", training=False, activation="relu"),
    _norm(1, 2, 5, "gradcheck", activation="relu"),
    _norm(5, 7, 2, activation="leaky_relu"),
    _norm(5, 37, 3, activation="leaky_relu", note="short rows, in groups and single"),
    _norm(4, 35, 7, training=False, activation="tanh", note="short rows"),
    _norm(3, 70, 33, activation="relu"),
    _norm(3, 5, 33, training=False, activation="tanh"),
    _norm(2, 3, 200, training=False, activation="leaky_relu"),
    _norm(4, 9, 500, "quick", training=False, activation="relu"),
    _norm(7, 3, 1000, "quick", activation="tanh"),
    _norm(2, 3, 2600, note="rows of several pieces"),
    _norm(8, 3, 40, offset=1000.0, note="the mean is 1000 deviations away"),
    _norm(64, 512, 3, activation="relu", note="split over threads"),
    # The generator's normalisations, and the bottleneck of Pulse2Pulse.
    _norm(64, 150, 40, "bench", activation="relu", note="WaveGAN*"),
    _norm(64, 50, 40, "bench", activation="relu", note="WaveGAN*"),
    _norm(64, 25, 200, "bench", activation="relu", note="WaveGAN*"),
    _norm(64, 10, 200, "bench", activation="relu", note="WaveGAN*"),
    _norm(64, 8, 1000, "bench", activation="tanh", note="WaveGAN*"),
    _norm(64, 250, 2, "bench", activation="leaky_relu", note="Pulse2Pulse"),
)

"""Fast inference: a trained denoiser, its labels and its diffusion steps compiled to a plan."""

from ecgcore.engine.graph import Replay
from ecgcore.engine.prepare import PRECISIONS, Evaluation, clear, prepare
from ecgcore.engine.structure import obstacle

__all__ = ["PRECISIONS", "Evaluation", "Replay", "clear", "obstacle", "prepare"]

"""Fast inference: a trained denoiser, its labels and its diffusion steps compiled to a plan."""

from ecgcore.engine.prepare import PRECISIONS, Evaluation, clear, prepare
from ecgcore.engine.structure import obstacle

__all__ = ["PRECISIONS", "Evaluation", "clear", "obstacle", "prepare"]

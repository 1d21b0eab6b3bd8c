"""Fast inference: a trained denoiser, its labels and its diffusion steps compiled to a plan."""

from ecgcore.engine.prepare import Evaluation, prepare

__all__ = ["Evaluation", "prepare"]

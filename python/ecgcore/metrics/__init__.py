"""How near generated records come to real ones: distances of sets, by the definitions of
SynthECG's evaluation, without cupy, and an evaluation of all of them. Not yet run on a GPU.
"""

from __future__ import annotations

from ecgcore.metrics.batches import matched, stratified_folds
from ecgcore.metrics.evaluation import (
    FEATURE_METRICS,
    METRICS,
    SIGNAL_METRICS,
    WARPED_METRICS,
    Evaluation,
    Figure,
    Records,
    evaluate,
)
from ecgcore.metrics.information import nmi
from ecgcore.metrics.pairs import frechet_distance, mmd, prd, rmse, squared_distances
from ecgcore.metrics.spectra import psd
from ecgcore.metrics.warping import discrete_frechet, dtw

__all__ = [
    "FEATURE_METRICS",
    "METRICS",
    "SIGNAL_METRICS",
    "WARPED_METRICS",
    "Evaluation",
    "Figure",
    "Records",
    "discrete_frechet",
    "dtw",
    "evaluate",
    "frechet_distance",
    "matched",
    "mmd",
    "nmi",
    "prd",
    "psd",
    "rmse",
    "squared_distances",
    "stratified_folds",
]

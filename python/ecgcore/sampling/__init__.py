"""Drawing ECGs from a trained generator: labels in, millivolt in twelve leads out."""

from __future__ import annotations

from ecgcore.sampling.batch import ECGBatch
from ecgcore.sampling.draw import BATCH_SIZE, bind, sample
from ecgcore.sampling.known import keep

__all__ = ["BATCH_SIZE", "ECGBatch", "bind", "keep", "sample"]

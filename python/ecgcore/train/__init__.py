"""What every trainer shares: settings, records in memory, run folders, averaged weights, processes,
interruption.
"""

from __future__ import annotations

from ecgcore.train.config import DataConfig, TrainConfig, read_section, write_section
from ecgcore.train.distributed import World, connect
from ecgcore.train.ema import EMA
from ecgcore.train.interrupt import StopRequest
from ecgcore.train.keeper import Progress, TrainingDiverged
from ecgcore.train.records import Records, load_records, open_dataset
from ecgcore.train.run import RunFolder, read_log

__all__ = [
    "EMA",
    "DataConfig",
    "Progress",
    "Records",
    "RunFolder",
    "StopRequest",
    "TrainConfig",
    "TrainingDiverged",
    "World",
    "connect",
    "load_records",
    "open_dataset",
    "read_log",
    "read_section",
    "write_section",
]

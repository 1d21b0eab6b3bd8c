"""The generators, and how they are built from JSON configs."""

from __future__ import annotations

from ecgcore.models.config import SSSDConfig
from ecgcore.models.registry import MODELS, from_config, read_config
from ecgcore.models.sssd_ecg import SSSDECG, ResidualBlock, ResidualGroup

__all__ = [
    "MODELS",
    "SSSDECG",
    "ResidualBlock",
    "ResidualGroup",
    "SSSDConfig",
    "from_config",
    "read_config",
]

"""The generators, and how they are built from JSON configs."""

from __future__ import annotations

from ecgcore.models.config import DSATConfig, SSSDConfig
from ecgcore.models.critic import CondP2PDiscriminator, CondWaveGANDiscriminator, Critic
from ecgcore.models.dsat_ecg import DSATECG
from ecgcore.models.gan import Generator
from ecgcore.models.pulse2pulse import CondP2PGenerator, P2PGenerator
from ecgcore.models.registry import GANS, MODELS, from_config, read_config
from ecgcore.models.sssd_ecg import SSSDECG, ResidualBlock, ResidualGroup
from ecgcore.models.wavegan import CondWaveGANGenerator

__all__ = [
    "DSATECG",
    "GANS",
    "MODELS",
    "SSSDECG",
    "CondP2PDiscriminator",
    "CondP2PGenerator",
    "CondWaveGANDiscriminator",
    "CondWaveGANGenerator",
    "Critic",
    "DSATConfig",
    "Generator",
    "P2PGenerator",
    "ResidualBlock",
    "ResidualGroup",
    "SSSDConfig",
    "from_config",
    "read_config",
]

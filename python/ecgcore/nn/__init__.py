"""Building blocks: state-space layers and what the models add around them.

:mod:`.s4model` names the S4 of SSSD-ECG; its classes are the ones at the top of this package.
"""

from __future__ import annotations

from ecgcore.nn import s4model
from ecgcore.nn.conv import Conv, ZeroConv1d
from ecgcore.nn.embedding import diffusion_step_embedding
from ecgcore.nn.s4model import S4, HippoSSKernel, S4Layer, SSKernelNPLR, transformer_encoder

__all__ = [
    "S4",
    "Conv",
    "HippoSSKernel",
    "S4Layer",
    "SSKernelNPLR",
    "ZeroConv1d",
    "diffusion_step_embedding",
    "s4model",
    "transformer_encoder",
]

"""Building blocks: state-space layers and what the models add around them.

:mod:`.s4model` names the first generation of S4, that of SSSD-ECG, and :mod:`.elsm` the second,
that of DSAT-ECG. Of a name that both have, the first's class stands at the top of this package.
"""

from __future__ import annotations

from ecgcore.nn import elsm, s4model
from ecgcore.nn.conv import Conv, UpsampleConv1d, ZeroConv1d
from ecgcore.nn.elsm import S4Module, SSKernel, SSKernelDiag
from ecgcore.nn.embedding import diffusion_step_embedding
from ecgcore.nn.local_attention import LocalAttention, local_attention_mask
from ecgcore.nn.norm import ConditionalBatchNorm1d
from ecgcore.nn.optimizer import optimizer_groups
from ecgcore.nn.phase_shuffle import PhaseShuffle
from ecgcore.nn.s4d import S4D
from ecgcore.nn.s4model import S4, HippoSSKernel, S4Layer, SSKernelNPLR, transformer_encoder
from ecgcore.nn.spade import SpadeDecoderLayer

__all__ = [
    "S4",
    "S4D",
    "ConditionalBatchNorm1d",
    "Conv",
    "HippoSSKernel",
    "LocalAttention",
    "PhaseShuffle",
    "S4Layer",
    "S4Module",
    "SSKernel",
    "SSKernelDiag",
    "SSKernelNPLR",
    "SpadeDecoderLayer",
    "UpsampleConv1d",
    "ZeroConv1d",
    "diffusion_step_embedding",
    "elsm",
    "local_attention_mask",
    "optimizer_groups",
    "s4model",
    "transformer_encoder",
]

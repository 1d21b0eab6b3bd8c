"""Second generation of S4, as DSAT-ECG uses it: ``S4``, ``S4Module``, their kernels, and the
attention beside them.

Gu, Goel, Ré, "Efficiently Modeling Long Sequences with Structured State Spaces" (2022); Zuo, Liu,
Jiao et al., "Efficient Long Sequence Modeling via State Space Augmented Transformer" (2022).
"""

from __future__ import annotations

from ecgcore.nn.elsm_kernel import SSKernel, SSKernelNPLR
from ecgcore.nn.elsm_s4 import S4, S4Module
from ecgcore.nn.local_attention import LocalAttention
from ecgcore.nn.ssm_kernel_diag import SSKernelDiag

__all__ = ["S4", "LocalAttention", "S4Module", "SSKernel", "SSKernelDiag", "SSKernelNPLR"]

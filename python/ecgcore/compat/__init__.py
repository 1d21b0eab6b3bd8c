"""Other projects: their checkpoints, and their imports of Cauchy and Vandermonde functions."""

from __future__ import annotations

from ecgcore.compat import state_spaces
from ecgcore.compat._convert import NETWORKS, Report, convert_state_dict, export_state_dict
from ecgcore.compat._denoiser import DIFFUSION
from ecgcore.compat._install import install

__all__ = [
    "DIFFUSION",
    "NETWORKS",
    "Report",
    "convert_state_dict",
    "export_state_dict",
    "install",
    "state_spaces",
]

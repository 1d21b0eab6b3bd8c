"""Checkpoints of other projects."""

from __future__ import annotations

from ecgcore.compat._convert import DIFFUSION, Report, convert_state_dict, export_state_dict

__all__ = ["DIFFUSION", "Report", "convert_state_dict", "export_state_dict"]

"""Fused native torch ops for state-space models, and conditional 12-lead ECG generators built on them."""

from __future__ import annotations

__version__ = "0.1.0"

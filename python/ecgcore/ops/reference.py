"""Every op's definition in plain torch: same signature, readable, slow, any order of derivative."""

from __future__ import annotations

from ecgcore.ops.cauchy import cauchy_reference as cauchy

__all__ = ["cauchy"]

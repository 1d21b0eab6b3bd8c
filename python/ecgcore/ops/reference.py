"""The definition of every op in plain torch: the same signatures, readable, slow, any order of derivative."""

from __future__ import annotations

from ecgcore.ops.cauchy import cauchy_reference as cauchy

__all__ = ["cauchy"]

"""Fused native torch ops for state-space models, and conditional ECG generators built on them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ecgcore import _native as _native  # first: it explains a missing torch or native module
from ecgcore import ops
from ecgcore._backend import backend, backends, set_backend

__version__ = "0.1.0"

# Loaded at first use, so that `import ecgcore` costs little more than `import torch`.
_MODULES = ("compat", "data", "diffusion", "gan", "models", "nn", "report", "testing")
_FUNCTIONS = {"load": "checkpoint", "save": "checkpoint", "ECGBatch": "sampling"}

__all__ = [
    "ECGBatch",
    "__version__",
    "backend",
    "backends",
    "compat",
    "data",
    "diffusion",
    "gan",
    "load",
    "models",
    "nn",
    "ops",
    "report",
    "save",
    "set_backend",
    "testing",
]

if TYPE_CHECKING:
    from ecgcore import compat, data, diffusion, gan, models, nn, report, testing
    from ecgcore.checkpoint import load, save
    from ecgcore.sampling import ECGBatch


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"ecgcore.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"ecgcore.{_FUNCTIONS[name]}"), name)
    raise AttributeError(f"module 'ecgcore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

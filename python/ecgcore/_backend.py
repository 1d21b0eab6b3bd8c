"""What the kernel-generating ops run on: an explicit choice, never a silent fallback."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ecgcore import _native

_NAMES = ("native", "reference", "keops")
_current = "native"


def current_backend() -> str:
    """The backend in use: ``"native"``, ``"keops"`` or ``"reference"``."""
    return _current


def set_backend(name: str) -> None:
    """Choose, for the whole process, what ops that know backends run on.

    These are ``cauchy``, ``vandermonde`` and its transpose, ``nplr_*`` and ``diag_kernel``.

    Args:
        name: ``"native"`` (default), the fused C++ and CUDA kernels; ``"keops"``, PyKeOps, on the
            CPU or GPU where the tensors are, compiled when first used; or ``"reference"``, torch.

    Raises:
        ValueError: for any other name.
        ImportError: for ``"keops"`` where PyKeOps is not installed. Nothing falls back to another
            backend: what PyKeOps cannot compile is an error of the op.
    """
    global _current
    if name not in _NAMES:
        raise ValueError(f"ecgcore.backend: name must be one of {', '.join(_NAMES)}, got {name!r}")
    if name == "keops" and (reason := _why_no_keops()) is not None:
        raise ImportError(f"ecgcore.backend: 'keops' needs PyKeOps, {reason}")
    _current = name


def _why_no_keops() -> str | None:
    if importlib.util.find_spec("pykeops") is None:
        return "which is not installed: pip install 'ecgcore[keops]'"
    return None


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Run the block on another backend, then return to the one before. See :func:`set_backend`."""
    before = _current
    set_backend(name)
    try:
        yield
    finally:
        set_backend(before)


def backends() -> dict[str, Any]:
    """What is loaded, and why not what is not.

    Returns:
        ``current`` (the backend in use), ``cpu`` (instruction set, those available, threads),
        ``cuda`` (whether the CUDA kernels can run, and the reason if not), ``keops`` (whether
        PyKeOps is installed), ``torch`` (its version) and ``build`` (how the native module was
        built).
    """
    reason = _native.why_no_cuda()
    return {
        "current": _current,
        "cpu": {
            "isa": _native.cpu_isa(),
            "available": _native.cpu_isas(),
            "threads": _native.num_threads(),
        },
        "cuda": {"available": reason is None, "reason": reason},
        "keops": {"available": _why_no_keops() is None},
        "torch": torch.__version__,
        "build": _native._C.build_info(),
    }

"""Loads the native module, after torch, with errors that say what to do."""

from __future__ import annotations

import os

_TORCH_FLOOR = (2, 11)

try:
    import torch
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ImportError(
        "ecgcore needs PyTorch 2.11 or newer, and this Python has none. Install it first, "
        "for example with 'pip install torch' (a CPU build is enough), then import again."
    ) from None

if tuple(int(part) for part in torch.__version__.split(".")[:2]) < _TORCH_FLOOR:
    raise ImportError(f"ecgcore needs PyTorch 2.11 or newer, this is {torch.__version__}")

try:
    from ecgcore import _C
except ModuleNotFoundError as error:
    if error.name != "ecgcore._C":
        raise
    raise ImportError(
        "ecgcore's native module is not built for this Python. Install the package with "
        "'pip install .' from its source folder (needs a C++20 compiler)."
    ) from None

if _isa := os.environ.get("ECGCORE_CPU_ISA"):
    try:
        _C.set_cpu_level(_isa)
    except RuntimeError as error:
        raise ImportError(f"ECGCORE_CPU_ISA: {error}") from None


def cpu_isa() -> str:
    """The instruction set the CPU kernels run on: ``"baseline"``, ``"avx2"``, ``"avx512"``,
    ``"avx512_bf16"`` or ``"amx_bf16"``; the last two differ from it in products of bfloat16."""
    return str(_C.cpu_level())


def cpu_isas() -> list[str]:
    """The instruction sets this processor can run, slowest first."""
    return list(_C.cpu_levels())


def set_cpu_isa(name: str) -> None:
    """Run the CPU kernels on another instruction set, as ``ECGCORE_CPU_ISA`` does at import.

    Raises:
        RuntimeError: if this processor or build lacks it; the text names those it has.
    """
    _C.set_cpu_level(name)


def num_threads() -> int:
    """Threads of torch's pool, which the CPU kernels share."""
    return int(_C.num_threads())


def why_no_cuda() -> str | None:
    """``None`` if the CUDA kernels can run, else the reason they cannot."""
    info = _C.build_info()
    if info["cuda_off"] is not None:
        return f"no CUDA kernels in this build: {info['cuda_off']}; reinstall with ECGCORE_CUDA=on"
    if not _C.cuda_stream_available():
        return f"this torch ({torch.__version__}) is a build without CUDA"
    if not torch.cuda.is_available():
        try:
            torch.cuda.init()
        except RuntimeError as error:
            return f"torch finds no usable CUDA device: {str(error).splitlines()[0]}"
        return "torch finds no usable CUDA device"
    return None

"""The CUDA half without a GPU: every kernel compiles for every architecture with warnings as
errors, needs no more registers than planned and spills none, and every operator has its kernel.

Compiling needs nvcc and takes a while, so reports are kept in ``build/ptxas`` under a hash of the
sources and flags.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import ecgcore
from ecgcore import _C
from support import ROOT, alone_in

pytestmark = pytest.mark.builds
NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
needs_nvcc = pytest.mark.skipif(NVCC is None, reason="no nvcc")

# The flags of cmake/EcgCuda.cmake, and the report.
FLAGS = [
    "-std=c++20",
    "-O3",
    "--Werror=all-warnings",
    "-Xcompiler=-Wall,-Wextra,-Werror,-Wno-psabi",
    "-Xptxas=-v",
]
# Compiled where nvcc knows them; the first two always.
ARCHITECTURES = ("80", "90", "100", "120")
INCLUDES = (ROOT / "cpp" / "include", ROOT / "cuda" / "include")
REPORTS = ROOT / "build" / "ptxas"
KERNELS = sorted((ROOT / "cuda" / "kernels").glob("*.cu"))

# Registers a thread may use, by block program: (float and halves, double). A multiprocessor has
# 65536; the hot programs leave room for the intended number of blocks side by side (docs/cuda.md).
# Every program not named here may use 128.
REGISTERS = {
    "CauchyForward": (112, 168),
    "CauchyBackwardModes": (56, 80),
    "CauchyBackwardNodes": (112, 176),
    "LocalAttentionForward": (224, 208),
    "LocalAttentionBackwardQueries": (224, 240),
    "LocalAttentionBackwardKeys": (248, 255),
    "LocalAttentionBackwardBias": (224, 240),
    "NplrForward": (64, 128),
    "NplrSums": (96, 128),
    "NplrCorrelate": (96, 128),
    "NplrWoodburyBackward": (128, 144),
    "NplrInverse": (80, 128),
    "NplrInverseAdjoint": (80, 128),
    "S4ConvForward": (64, 128),
    "S4ConvBackward": (80, 255),
    "S4ConvRows": (104, 128),
    "SsmStepForward": (64, 64),
    "PowerModes": (64, 64),
    "PowerSums": (96, 128),
    "PowerMoments": (112, 168),
    "VandermondeGradients": (168, 192),
    "DiagGradients": (152, 168),
    "PhaseShuffle": (48, 48),
    "BatchMoments": (48, 48),
    "FeatureStatisticsOf": (72, 72),
    "NormalizedRowSums": (64, 64),
    "GradientMeans": (128, 144),
    "OverElements": (64, 64),
}
# From sm_100 on, where one block less is asked for (block.cuh).
REGISTERS_FROM_100 = REGISTERS | {
    "LocalAttentionForward": (255, 255),
    "LocalAttentionBackwardQueries": (255, 255),
    "LocalAttentionBackwardKeys": (255, 255),
    "LocalAttentionBackwardBias": (248, 248),
    "NplrForward": (72, 168),
    "NplrWoodbury": (128, 168),
    "NplrWoodburyBackward": (128, 168),
    "NplrCorrelate": (120, 168),
    "NplrInverse": (96, 168),
    "NplrInverseAdjoint": (96, 168),
    "S4ConvForward": (80, 128),
    "S4ConvBackward": (120, 255),
    "S4ConvRows": (104, 136),
    "SsmStepBackwardSums": (120, 144),
    "PowerSums": (168, 192),
    "PowerMoments": (120, 168),
    "VandermondeTransposeModes": (104, 168),
    "PowerModes": (88, 88),
    "DiagGradients": (152, 224),
    "BatchMoments": (48, 56),
    "NormalizedRowSums": (80, 104),
}
# Bytes stored and loaded for want of registers, where they are known: the price of another block on
# the multiprocessor. Every other spill is a failure.
SPILLED = {
    ("LocalAttentionForward<double>", "100"): 8,
    ("S4ConvForward<double>", "80"): 16,
    ("S4ConvBackward<float>", "80"): 32,
    ("S4ConvBackward<Float16>", "80"): 32,
    ("S4ConvBackward<BFloat16>", "80"): 32,
}
# Bytes of local memory, beside spills: the double precision sine and cosine need a little for huge
# arguments, and only programs that fill tables or work in double call them.
STACK = {
    "NplrNodes": 64,
    "FftTables": 64,
    "PowerModes": 64,
    "PowerSums": 64,
    "PowerMoments": 64,
    "VandermondeGradients": 64,
    "VandermondeTransposeModes": 64,
    "DiagGradients": 64,
    "Philox": 64,
}


@dataclass(frozen=True)
class Usage:
    program: str  # "NplrForward<float, 2>"
    registers: int
    stack: int
    spilled: int


def read_report(report: str) -> list[Usage]:
    """The kernels in the output of ``ptxas -v``."""
    names = re.findall(r"Compiling entry function '(\w+)'", report)
    readable = subprocess.run(
        ["c++filt"], input="\n".join(names), text=True, capture_output=True, check=True
    ).stdout.splitlines()
    found = []
    entries = re.split(r"Compiling entry function '\w+' for '\w+'", report)[1:]
    for name, entry in zip(readable, entries, strict=True):
        program = re.search(r"run_blocks<ecg::cuda::(.*)>\(", name)
        used = re.search(r"Used (\d+) registers", entry)
        # The kernel's own line, then one for each function it calls.
        frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+)", entry)
        assert program, name
        assert used, entry
        assert frames, entry
        found.append(
            Usage(
                program.group(1).replace("ecg::", "").strip(),
                int(used.group(1)),
                max(int(stack) for stack, _, _ in frames),
                sum(int(stores) + int(loads) for _, stores, loads in frames),
            )
        )
    return found


def included(source: Path, found: dict[Path, bytes] | None = None) -> dict[Path, bytes]:
    """The file and every header of ours it includes, directly or not."""
    found = {} if found is None else found
    found[source] = source.read_bytes()
    for name in re.findall(r'#include "(ecgcore/[^"]+)"', found[source].decode()):
        for folder in INCLUDES:
            if (folder / name).exists() and folder / name not in found:
                included(folder / name, found)
    return found


def compile_kernel(source: Path, architecture: str, version: bytes) -> str:
    """The report of one compilation, or its errors."""
    files = included(source)
    text = b"".join(files[path] for path in sorted(files)) + " ".join(FLAGS).encode() + version
    digest = hashlib.sha256(text).hexdigest()[:16]
    kept = REPORTS / f"{source.stem}-{architecture}-{digest}.txt"
    if kept.exists():
        return kept.read_text()
    for old in kept.parent.glob(f"{source.stem}-{architecture}-*"):
        old.unlink()
    includes = [f"-I{folder}" for folder in INCLUDES]
    code = f"-gencode=arch=compute_{architecture},code=sm_{architecture}"
    run = subprocess.run(
        # The code for the GPU alone; what surrounds it on the host, the package's build compiles.
        [str(NVCC), *FLAGS, code, *includes, "-cubin", str(source), "-o", os.devnull],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if run.returncode != 0:
        return f"error: nvcc failed\n{run.stdout}"
    kept.write_text(run.stdout)
    return run.stdout


@pytest.fixture(scope="module")
def reports() -> dict[tuple[str, str], str]:
    """nvcc's report for every (architecture, kernel file)."""
    with alone_in(REPORTS):
        return read_or_compile()


def read_or_compile() -> dict[tuple[str, str], str]:
    listed = subprocess.run([str(NVCC), "--list-gpu-arch"], text=True, capture_output=True)
    known = [a for a in ARCHITECTURES if f"compute_{a}\n" in listed.stdout]
    assert known[:2] == ["80", "90"]
    version = subprocess.run([str(NVCC), "--version"], capture_output=True, check=True).stdout
    jobs = [(architecture, source) for source in KERNELS for architecture in known]
    with ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)))) as pool:
        done = pool.map(lambda job: compile_kernel(job[1], job[0], version), jobs)
    return {(a, source.stem): report for (a, source), report in zip(jobs, done, strict=True)}


@needs_nvcc
def test_kernels_compile_without_warnings(reports: dict[tuple[str, str], str]) -> None:
    for (architecture, kernel), report in reports.items():
        assert not re.search(r"\b(error|warning)\b", report), (
            f"{kernel}, sm_{architecture}:\n{report}"
        )
        assert read_report(report), f"{kernel}, sm_{architecture}: no kernel in the report"


@needs_nvcc
def test_registers_and_spills(reports: dict[tuple[str, str], str]) -> None:
    excesses = []
    for (architecture, _), report in reports.items():
        for usage in read_report(report):
            name, arguments = usage.program.split("<", 1)
            table = REGISTERS if int(architecture) < 100 else REGISTERS_FROM_100
            single, double = table.get(name, (128, 128))
            registers = double if arguments.startswith("double") else single
            spilled = SPILLED.get((usage.program, architecture), 0)
            stack = STACK.get(name, spilled)
            if usage.registers > registers or usage.spilled > spilled or usage.stack > stack:
                excesses.append(
                    f"sm_{architecture}: {usage}; planned are {registers} registers, "
                    f"{stack} bytes of stack, {spilled} bytes spilled"
                )
    assert not excesses, "\n".join(excesses)


def test_reading_a_report() -> None:
    name = "_ZN3ecg4cuda10run_blocksINS0_11NplrForwardIfLi2EEEEEvT_"
    report = f"""ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{name}' for 'sm_90'
ptxas info    : Function properties for {name}
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 8 bytes cumulative stack size
"""
    assert read_report(report) == [Usage("NplrForward<float, 2>", 64, 8, 16)]


CHECK_COLUMNS = """
import sys, torch, ecgcore
from ecgcore.testing import CPU_ONLY
has = torch._C._dispatch_has_kernel_for_dispatch_key
names = [n for n in torch._C._dispatch_get_all_op_names() if n.startswith("ecgcore::")]
native = [n for n in names if has(n, "CPU") and n.removeprefix("ecgcore::") not in CPU_ONLY]
print(*native)
sys.exit(", ".join(n for n in native if not has(n, "CUDA")) or (0 if native else "no operators"))
"""


@pytest.fixture(scope="module")
def cuda_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to import ecgcore from, its native module built with CUDA: the one in use, or one
    built for this test. An editable install keeps sources and module apart, so both are linked."""
    if _C.build_info()["cuda"] is not None:
        module = Path(_C.__file__)
    else:
        build = ROOT / "build" / "checks" / "cuda"
        with alone_in(build):
            module = built_with_cuda(build)
    folder = tmp_path_factory.mktemp("cuda") / "ecgcore"
    folder.mkdir()
    for entry in Path(ecgcore.__file__).parent.iterdir():
        if not entry.name.startswith("_C.cpython"):
            (folder / entry.name).symlink_to(entry)
    (folder / module.name).symlink_to(module)
    return folder.parent


def built_with_cuda(build: Path) -> Path:
    """A native module with CUDA kernels for one architecture."""
    if NVCC is None:
        pytest.skip("no nvcc")
    pybind11 = subprocess.run(
        [sys.executable, "-m", "pybind11", "--cmakedir"], text=True, capture_output=True, check=True
    ).stdout.strip()
    configure = ["cmake", "-S", str(ROOT), "-B", str(build), "-DCMAKE_BUILD_TYPE=Release"]
    configure += ["-DECGCORE_CUDA=on", "-DCMAKE_CUDA_ARCHITECTURES=90", "-DECGCORE_HOOKS=OFF"]
    configure += [f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11}"]
    if shutil.which("ninja"):
        configure += ["-G", "Ninja"]
    for command in (configure, ["cmake", "--build", str(build), "-j", "2"]):
        run = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert run.returncode == 0, run.stdout[-4000:]
    (module,) = (build / "cpp").glob("_C.*.so")
    return module


def python(code: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Runs code with the ecgcore of this folder. -S keeps an editable install out of the way."""
    paths = [str(path), *filter(None, sys.path)]
    return subprocess.run(
        [sys.executable, "-S", "-c", code],
        text=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )


@pytest.mark.slow
def test_every_operator_has_its_cuda_kernel(cuda_package: Path) -> None:
    run = python(CHECK_COLUMNS, cuda_package)
    assert run.returncode == 0, f"without a CUDA kernel: {run.stderr}"
    found = set(run.stdout.split())
    for op in (
        "cauchy",
        "diag_kernel",
        "local_attention",
        "nplr_kernel",
        "nplr_spectrum",
        "s4_conv",
        "ssm_step",
        "vandermonde",
    ):
        assert {f"ecgcore::{op}", f"ecgcore::{op}_backward"} <= found


@pytest.mark.slow
@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch is a CUDA build")
def test_cuda_module_on_a_cpu_torch(cuda_package: Path) -> None:
    """It loads, computes on the CPU, and leaves it to torch to say that there is no CUDA."""
    run = python(
        """
import torch, ecgcore
from ecgcore import _C
assert _C.build_info()["cuda"] and not _C.cuda_stream_available()
x = torch.ones(1, 1, dtype=torch.complex64)
assert ecgcore.ops.cauchy(x, 2 * x[0], x).item() == 2
try:
    ecgcore.ops.cauchy(x.to("cuda"), x[0], x)
except Exception as error:
    print(error)
""",
        cuda_package,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "Torch not compiled with CUDA enabled"

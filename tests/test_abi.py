"""cpp/torch/abi.h against the installed torch: types, names, and no function newer than torch
2.11."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch.utils import cpp_extension

from support import ROOT

HEADER = ROOT / "cpp" / "torch" / "abi.h"
TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])
LEVEL = (2 << 56) | (11 << 48)
"""torch 2.11 in the encoding of TORCH_TARGET_VERSION."""
SINCE_2_13 = {"torch_exception_get_what_without_backtrace"}
CUDA_ONLY = {"aoti_torch_get_current_cuda_stream"}


def declared() -> tuple[set[str], set[str]]:
    """Names of the strong and of the weak functions that abi.h declares."""
    code = re.sub(r"//[^\n]*", "", HEADER.read_text())
    body = code[code.index('extern "C"') :]
    weak: set[str] = set()
    strong: set[str] = set()
    for statement in body.split(";"):
        match = re.search(r"\b((?:aoti_)?torch_\w+)\s*\(", statement)
        if match:
            (weak if "weak" in statement else strong).add(match.group(1))
    return strong, weak


def compile_check(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    folders = [p for p in cpp_extension.include_paths() if Path(p, "torch/csrc").is_dir()]
    if not folders:
        pytest.skip("this torch comes without headers")
    includes = [f"-I{HEADER.parent}", *(f"-isystem{p}" for p in cpp_extension.include_paths())]
    source = ROOT / "tests" / "abi_check.cpp"
    command = [compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Werror", *includes, *options]
    return subprocess.run([*command, source], capture_output=True, text=True, cwd=tmp_path)


def test_the_functions_are_found_in_the_header() -> None:
    strong, weak = declared()
    assert weak == SINCE_2_13 | CUDA_ONLY
    assert {"aoti_torch_empty_strided", "torch_library_impl", "torch_parallel_for"} <= strong
    assert len(strong) > 30


def test_declarations_agree_with_torchs_own(tmp_path: Path) -> None:
    result = compile_check(tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (
            "aoti_torch_get_dim(AtenTensorOpaque* tensor, int64_t*",
            "aoti_torch_get_dim(AtenTensorOpaque* tensor, int32_t*",
        ),
        ("int32_t torch_get_num_threads(", "int64_t torch_get_num_threads("),
        ("const void** out", "void** out"),
        ("uint64_t outputs)", "int64_t outputs)"),
        ("torch_delete_string(StringOpaque*", "torch_delete_string(StableListOpaque*"),
    ],
)
def test_a_wrong_declaration_would_not_compile(tmp_path: Path, right: str, wrong: str) -> None:
    text = HEADER.read_text()
    assert right in text
    (tmp_path / "abi.h").write_text(text.replace(right, wrong, 1))
    result = compile_check(tmp_path, f"-I{tmp_path}", "-iquote", str(tmp_path))
    assert result.returncode != 0
    assert re.search("conflicting declaration|invalid|different", result.stderr)


def test_no_function_is_newer_than_the_level_promised(tmp_path: Path) -> None:
    strong, _ = declared()
    names = " ".join(f"ECG_KNOWN({name})" for name in sorted(strong | CUDA_ONLY))
    level = f"-DTORCH_TARGET_VERSION={LEVEL:#x}ULL"
    result = compile_check(tmp_path, level, f"-DECG_ABI_NAMES={names}")
    assert result.returncode == 0, result.stderr
    if TORCH >= (2, 13):  # the guard itself works: a later function is hidden at that level
        later = compile_check(
            tmp_path, level, *(f"-DECG_ABI_NAMES=ECG_KNOWN({n})" for n in SINCE_2_13)
        )
        assert "torch_exception_get_what_without_backtrace" in later.stderr


def test_every_name_is_in_the_installed_torch() -> None:
    strong, _ = declared()
    folder = Path(torch.__file__).parent / "lib"
    library = ctypes.CDLL(str(folder / "libtorch_cpu.so"))
    missing = [name for name in sorted(strong) if not hasattr(library, name)]
    assert not missing
    assert hasattr(library, *SINCE_2_13) == (TORCH >= (2, 13))
    if torch.version.cuda:
        assert hasattr(ctypes.CDLL(str(folder / "libtorch_cuda.so")), *CUDA_ONLY)


def test_the_native_module_needs_only_what_is_declared() -> None:
    """Undefined torch symbols of the module itself: declared ones, and nothing of torch's C++."""
    from ecgcore import _C

    if shutil.which("nm") is None:
        pytest.skip("no nm")
    listing = subprocess.run(
        ["nm", "-D", "--undefined-only", _C.__file__], capture_output=True, text=True, check=True
    )
    names = {line.split()[-1] for line in listing.stdout.splitlines()}
    strong, weak = declared()
    used = {n for n in names if n.startswith(("aoti_", "torch_"))}
    assert used
    assert used <= strong | weak
    assert not [n for n in names if re.match(r"_ZN\w*(c10|at|torch)\d", n)]

"""The house rules that a machine can check: arrows point down, kernels know no torch, no machine
leaks in."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import ROOT

PACKAGE = ROOT / "python" / "ecgcore"

# Python: a module may import what stands lower. On floor 7 the rooms are open to each other.
FLOOR = {
    "errors": 0.0,
    "_C": 0.0,
    "_files": 0.0,
    "data": 1.0,  # beside the house: arrays, leads; knows no torch op
    "report": 2.0,  # beside the house: may use data
    "_native": 3.0,
    "_backend": 3.5,
    "": 3.5,  # `import ecgcore` itself: what it loads when it is imported
    "ops": 4.0,
    "random": 4.5,  # beside the house: may use ops
    "nn": 5.0,
    "models": 6.0,
    "compat": 6.5,  # beside the house: may use models
    "engine": 6.5,
    "diffusion": 7.0,
    "gan": 7.0,
    "train": 7.0,
    "sampling": 7.0,
    "checkpoint": 7.0,
    "metrics": 7.0,
    "testing": 7.5,  # beside the house: may use all that runs models
    "cli": 8.0,
    "__main__": 9.0,
}

# C++: (floor, folders). Longest match wins.
NATIVE_FLOOR = {
    "cpp/include/ecgcore/math": 1,
    "cpp/include/ecgcore/kernels": 2,
    "cpp/kernels": 2,
    "cuda/kernels": 2,
    "cuda/include": 2,
    "cpp/torch": 3,
    "cuda/torch": 3,
    "cpp/hooks": 4,
    "cpp/module.cpp": 4,
}
INCLUDE_ROOTS = ("cpp/include", "cuda/include", "cpp", "cuda")
FLOOR_1_HEADERS = {"cstdint", "cstddef", "cmath", "cstring", "type_traits"}


def python_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def native_files() -> list[Path]:
    return sorted(
        p
        for folder in ("cpp", "cuda")
        for p in (ROOT / folder).rglob("*")
        if p.suffix in (".h", ".cpp", ".cu", ".cuh")
    )


def room(path: Path) -> str:
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if part == "__init__" else part


def imported_rooms(path: Path) -> Iterator[tuple[int, str]]:
    """(line, room of ecgcore) of every import, those inside functions included."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(parts[: len(parts) - node.level]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            rooted = module == "ecgcore"
            names = [f"ecgcore.{a.name}" for a in node.names] if rooted else [module]
        else:
            continue
        for name in names:
            if name == "ecgcore" or name.startswith("ecgcore."):
                found = name.removeprefix("ecgcore").lstrip(".").split(".")[0]
                yield node.lineno, found if found in FLOOR else ""


@pytest.mark.parametrize(
    "path",
    [p for p in python_files() if room(p) != ""],  # the package itself re-exports every floor
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_python_imports_point_down(path: Path) -> None:
    own = room(path)
    assert own in FLOOR, f"{own} stands on no floor yet: add it to FLOOR"
    wrong = [
        f"line {line}: {own} ({FLOOR[own]}) imports {other or 'ecgcore'} ({FLOOR[other]})"
        for line, other in imported_rooms(path)
        if other != own and not (FLOOR[other] < FLOOR[own] or FLOOR[other] == FLOOR[own] == 7.0)
    ]
    assert not wrong, "\n".join(wrong)


def native_floor(path: Path) -> int:
    name = path.relative_to(ROOT).as_posix()
    matching = [folder for folder in NATIVE_FLOOR if name.startswith(folder)]
    assert matching, f"{name} stands on no floor yet: add its folder to NATIVE_FLOOR"
    return NATIVE_FLOOR[max(matching, key=len)]


def resolve(include: str, path: Path) -> Path | None:
    """The project's file that ``#include "include"`` means in ``path``."""
    for folder in (path.parent, *(ROOT / r for r in INCLUDE_ROOTS)):
        if (folder / include).is_file():
            return (folder / include).resolve()
    return None


@pytest.mark.parametrize("path", native_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_native_includes_point_down(path: Path) -> None:
    floor = native_floor(path)
    for kind, name in re.findall(r'^#\s*include\s*([<"])([^>"]+)', path.read_text(), re.MULTILINE):
        if kind == '"':
            target = resolve(name, path)
            assert target is not None, f'#include "{name}" is no file of the project'
            assert native_floor(target) <= floor, f"floor {floor} includes {name} from above"
        elif floor == 1:
            assert name in FLOOR_1_HEADERS, f"floor 1 includes <{name}>"
        else:
            outside = ("torch/", "ATen/", "c10/", "caffe2/")
            assert not name.startswith(outside), (
                f"<{name}>: torch's headers are no part of the build"
            )
            assert floor == 4 or not name.startswith("pybind11/"), (
                f"floor {floor} includes <{name}>"
            )


@pytest.mark.parametrize(
    "path",
    [p for p in native_files() if native_floor(p) < 3],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_kernels_know_no_torch(path: Path) -> None:
    code = re.sub(r"//[^\n]*", "", path.read_text())
    assert not re.search(r"\b(at::|c10::|torch::|aoti_torch_|torch_[a-z]+\()", code)


def kernel_sources() -> list[Path]:
    """What cpp/CMakeLists.txt compiles once per instruction set."""
    text = (ROOT / "cpp" / "CMakeLists.txt").read_text()
    match = re.search(r"ecg_add_kernels\(\s*ecg_kernels([^)]*)\)", text)
    assert match
    return [ROOT / "cpp" / name for name in match.group(1).split() if name not in ("BF16", "AMX")]


@pytest.mark.parametrize(
    "path",
    [*kernel_sources(), *sorted((ROOT / "cpp/include/ecgcore/math").glob("*.h"))],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_code_compiled_per_instruction_set_uses_no_std(path: Path) -> None:
    """The linker keeps one copy of a std:: template, and it may be the one compiled for AVX-512."""
    code = re.sub(r"//[^\n]*", "", path.read_text())
    compile_time = r"enable_if_t|is_\w+_v|conditional_t|size_t|u?int\d+_t"
    assert not re.findall(rf"\bstd::(?!(?:{compile_time})\b)\w+", code)


def test_objects_of_an_instruction_set_share_no_function_with_another() -> None:
    """The same, seen by the linker: every mergeable symbol carries its instruction set in its
    name."""
    # Of the builds beside the sources. Tests that build, perhaps just now, do it further down.
    objects = sorted((ROOT / "build").glob("*/cpp/CMakeFiles/ecg_kernels_*.dir/**/*.o"))
    if not objects or shutil.which("nm") is None:
        pytest.skip("no objects of a build beside the sources, or no nm")
    for path in objects:
        match = re.search(r"ecg_kernels_(\w+)\.dir", str(path))
        assert match
        listing = subprocess.run(["nm", "-C", path], capture_output=True, text=True, check=True)
        weak = re.findall(r"^[0-9a-f]+ [WVu] (.*)$", listing.stdout, re.MULTILINE)
        foreign = [s for s in weak if f"::{match.group(1)}::" not in s]
        assert not foreign, f"{path.name} ({match.group(1)}): {foreign}"


def tracked_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True
    )
    if listing.returncode != 0:
        pytest.skip("no git checkout")
    return [ROOT / name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_file_names_a_folder_of_the_machine_it_was_written_on() -> None:
    folders = "|".join(("work", "farm", "root", "tmp", "home", "Users"))
    absolute = re.compile(rf"(?:^|[^\w.$}}/-])/(?:{folders})/\w")
    found = []
    for path in tracked_files():
        if path.suffix in (".png", ".npz", ".npy", ".dat", ".safetensors", ".pdf"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if absolute.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not found, "\n".join(found)


def test_no_device_is_named_above_the_adapters() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match}"
        for path in python_files()
        if room(path) not in ("testing", "cli", "_native", "_backend")
        for match in re.findall(r"\.cuda\(\)", path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)

"""Building and installing the package as a user does: wheels, sdist, several Pythons, the errors.

What a build has to be repeated for (native code and its packaging) is remembered under
``build/install``, so that only a change there costs a build. All builds share one folder: the
kernels, which are most of the work, depend neither on Python nor on where the build tools are.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

from support import ROOT, alone_in

pytestmark = [pytest.mark.slow, pytest.mark.builds]

WORK = ROOT / "build" / "install"
SITE = Path(torch.__file__).parents[1]


def run(
    *command: str | Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    clean = {
        k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "ECGCORE_CUDA", "CUDACXX")
    }
    clean["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), clean.get("PATH", "")])
    return subprocess.run(
        command, capture_output=True, text=True, env={**clean, **(env or {})}, cwd=WORK
    )


def succeed(*command: str | Path, env: Mapping[str, str] | None = None) -> str:
    result = run(*command, env=env)
    assert result.returncode == 0, f"{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def source() -> Iterator[Path]:
    """What the sdist holds, unpacked where unchanged files keep their times, so that builds stay
    warm."""
    with alone_in(WORK):
        yield unpacked_sdist()


def unpacked_sdist() -> Path:
    succeed(
        sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", WORK / "sdist", ROOT
    )
    (archive,) = (WORK / "sdist").glob("ecgcore-*.tar.gz")
    target = WORK / "source"
    wanted = set()
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            content = tar.extractfile(member)
            if content is None:
                continue
            path = target / Path(*Path(member.name).parts[1:])
            wanted.add(path)
            data = content.read()
            if not path.exists() or path.read_bytes() != data:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    for path in target.rglob("*"):
        if path.is_file() and path not in wanted:
            path.unlink()
    return target


def fingerprint(source: Path) -> str:
    """Of everything a build reads, and of the errors at import that are tested here."""
    parts = ("cpp", "cuda", "cmake", "CMakeLists.txt", "pyproject.toml")
    python = ("python/ecgcore/__init__.py", "python/ecgcore/_native.py")
    digest = hashlib.sha256()
    for part in (*parts, *python):
        top = source / part
        for path in sorted(p for p in (top.rglob("*") if top.is_dir() else [top]) if p.is_file()):
            digest.update(path.relative_to(source).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def wheel(python: str | Path, source: Path, *, isolated: bool) -> Path:
    """The wheel that ``python`` builds of ``source``; built anew only if native code changed."""
    version = succeed(python, "-c", "import sys; print('cp%d%d' % sys.version_info[:2])").strip()
    name = f"{version}-isolated" if isolated else version
    out, stamp = WORK / f"wheel-{name}", WORK / f"wheel-{name}.stamp"
    if not stamp.exists() or stamp.read_text() != fingerprint(source):
        shutil.rmtree(out, ignore_errors=True)
        folder = WORK / "build" / "wheels"
        options: list[str] = []
        if not isolated:
            # The build tools are pure Python and come from the environment of the tests.
            tools = WORK / f"tools-{version}"
            succeed(python, "-m", "venv", "--clear", tools)
            (site,) = (tools / "lib").glob("python*/site-packages")
            modules = ("scikit_build_core", "pybind11", "packaging", "pathspec")
            origins = (str(find_spec(m).origin) for m in modules)
            folders = sorted({f"{Path(o).parents[1]}\n" for o in origins})
            (site / "tools.pth").write_text("".join(folders))
            python = tools / "bin" / "python"
            options = ["--no-build-isolation"]
        # All of it once, then without what only the tests call: that would be compiled for every
        # Python again, and takes longest.
        hooks = "ON" if isolated else "OFF"
        options += ["-C", f"cmake.define.ECGCORE_HOOKS={hooks}"]
        pip = [python, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", out, *options]
        succeed(*pip, "-C", f"build-dir={folder}", source, env={"ECGCORE_CUDA": "off"})
        stamp.write_text(fingerprint(source))
    (built,) = out.glob("ecgcore-*.whl")
    assert version in built.name
    return built


def environment(path: Path, built: Path, python: str | Path, *sites: Path) -> Path:
    """A fresh virtual environment that holds the wheel and sees ``sites``; returns its Python."""
    succeed(python, "-m", "venv", "--without-pip", "--clear", path)
    (site,) = (path / "lib").glob("python*/site-packages")
    with ZipFile(built) as archive:
        archive.extractall(site)
    if sites:
        (site / "shared.pth").write_text("".join(f"{s}\n" for s in sites))
    return path / "bin" / "python"


def other_pythons() -> list[Path]:
    """One interpreter of each other minor version from 3.11 on that can make extension modules."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [shutil.which(f"python3.{minor}") for minor in range(11, 16)]
    candidates += [str(p) for p in sorted(pyenv.glob("versions/3.*/bin/python3"))]
    found: dict[tuple[int, int], Path] = {}
    probe = (
        "import os, sys, sysconfig, pip, venv; print(*sys.version_info[:2]);"
        "sys.exit(not os.path.exists(os.path.join(sysconfig.get_path('include'), 'Python.h')))"
    )
    for candidate in filter(None, candidates):
        result = subprocess.run([candidate, "-c", probe], capture_output=True, text=True)
        if result.returncode == 0:
            major, minor = map(int, result.stdout.split())
            if (3, 11) <= (major, minor) != sys.version_info[:2]:
                found.setdefault((major, minor), Path(candidate))
    return list(found.values())


def test_sdist_holds_what_a_build_needs_and_nothing_private(source: Path) -> None:
    for needed in (
        "CMakeLists.txt",
        "cpp/torch/abi.h",
        "cuda/CMakeLists.txt",
        "LICENSE",
        "PKG-INFO",
    ):
        assert (source / needed).is_file(), needed
    names = [p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file()]
    assert not [
        n for n in names if n.endswith((".so", ".npz", ".pyc")) or n.startswith((".ci", "build/"))
    ]


def test_isolated_build_without_torch_runs_beside_the_installed_torch(source: Path) -> None:
    """The build environment has no torch; the wheel runs with the one that is installed."""
    python = environment(
        WORK / "venv", wheel(sys.executable, source, isolated=True), sys.executable, SITE
    )
    code = (
        "import torch, ecgcore; from ecgcore.testing import quick_check;"
        "results = quick_check(); assert results and all(r.ok for r in results);"
        "print(ecgcore.__file__, ecgcore.backends()['cuda']['reason'])"
    )
    out = succeed(python, "-c", code)
    assert str(WORK / "venv") in out, "another copy of ecgcore was imported"
    assert "ECGCORE_CUDA=on" in out  # the reason CUDA is off says how to turn it on


def test_build_without_isolation_gives_the_same_wheel(source: Path) -> None:
    first, second = (wheel(sys.executable, source, isolated=i) for i in (True, False))
    names = set(ZipFile(second).namelist())
    native = {n for n in names if n.startswith("ecgcore/_C.")}
    assert len([n for n in native if n.endswith(".so")]) == 1
    assert native <= set(ZipFile(first).namelist())
    assert not [n for n in names if not n.startswith(("ecgcore/", "ecgcore-"))]


def test_without_torch_the_error_says_how_to_get_it(source: Path) -> None:
    built = wheel(sys.executable, source, isolated=False)
    python = environment(WORK / "venv-bare", built, sys.executable)
    result = run(python, "-c", "import ecgcore")
    assert result.returncode != 0
    words = r"ImportError: ecgcore needs PyTorch 2\.11 or newer.*pip install torch"
    assert re.search(words, result.stderr)


@pytest.mark.parametrize("python", other_pythons(), ids=lambda p: str(p.parent.parent.name))
def test_builds_on_every_python_at_hand(python: Path, source: Path) -> None:
    built = wheel(python, source, isolated=False)
    inside = environment(WORK / f"venv-{built.name.split('-')[2]}", built, python)
    has_torch = run(python, "-c", "import torch").returncode == 0
    result = run(inside, "-c", "import ecgcore")
    if not has_torch:
        assert re.search(r"ImportError: ecgcore needs PyTorch 2\.11", result.stderr)
    # The module itself loads up to the torch symbols it waits for: it is built for this Python.
    load = "import importlib.util as u, sys; s = u.find_spec('ecgcore'); import glob, os, ctypes;"
    load += "ctypes.CDLL(glob.glob(os.path.join(s.submodule_search_locations[0], '_C*.so'))[0])"
    result = run(inside, "-c", load)
    assert "libtorch_cpu.so" in result.stderr


def test_cuda_on_without_a_compiler_says_what_is_missing(source: Path) -> None:
    result = run(
        sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation",
        "-C", f"build-dir={WORK / 'build' / 'no-nvcc'}", "--wheel-dir", WORK / "none", source,
        env={"ECGCORE_CUDA": "on", "CUDACXX": shutil.which("false") or "false"},
    )  # fmt: skip
    assert result.returncode != 0
    text = " ".join((result.stdout + result.stderr).split())
    assert "ECGCORE_CUDA=on, but there is no working CUDA compiler" in text
    assert "CUDACXX" in text
    assert "ECGCORE_CUDA=off" in text


def test_cuda_values_are_checked(source: Path) -> None:
    result = run("cmake", "-S", source, "-B", WORK / "build" / "bad-value", "-DECGCORE_CUDA=maybe")
    assert result.returncode != 0
    assert "ECGCORE_CUDA must be auto, on or off, got 'maybe'" in result.stderr

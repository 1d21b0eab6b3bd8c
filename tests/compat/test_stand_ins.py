"""``compat.install()``: other projects' imports, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ecgcore.compat import state_spaces
from ecgcore.compat._install import MODULES

CALLERS = Path(__file__).parent / "callers"


def python(code: str, folder: Path) -> str:
    """What ``code`` prints, run in a new process that finds the modules of ``folder``."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.mark.parametrize("caller", ["nplr_v3", "s4d_v4", "raw_extension", "sssd", "synthecg"])
def test_a_caller_in_the_style_of_each_project_learns(caller: str) -> None:
    run = subprocess.run(
        [sys.executable, "train.py", caller],
        cwd=CALLERS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    first, last = map(float, run.stdout.split())
    assert last < first / 2


def test_every_name_offers_every_function_and_twice_is_once(tmp_path: Path) -> None:
    code = f"""
import importlib, sys
from ecgcore import compat
before = len(sys.meta_path)
for _ in range(2):
    compat.install()
assert len(sys.meta_path) == before + 1
for name in {MODULES!r}:
    module = importlib.import_module(name)
    for function in {state_spaces.__all__!r}:
        assert getattr(module, function) is getattr(compat.state_spaces, function)
import extensions.kernels
assert extensions.kernels.cauchy.cauchy_mult is compat.state_spaces.cauchy_mult
from structured_kernels import *
print(cauchy_mult_sym_bwd.__name__)
"""
    assert python(code, tmp_path) == "cauchy_mult_sym_bwd"


def write(folder: Path, **files: str) -> None:
    """``a__b="text"`` writes ``a/b.py``."""
    for name, text in files.items():
        path = folder.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize("packages", [False, True], ids=["namespace", "package"])
def test_a_projects_own_folder_keeps_its_other_modules(tmp_path: Path, packages: bool) -> None:
    write(tmp_path, extensions__other="X = 1", extensions__kernels__own="Y = 2")
    if packages:
        (tmp_path / "extensions" / "__init__.py").write_text("Z = 3")
        (tmp_path / "extensions" / "kernels" / "__init__.py").write_text("")
    code = """
from ecgcore import compat
compat.install()
import extensions, extensions.kernels.own
from extensions.kernels.cauchy import cauchy_mult
from extensions.kernels import own, vandermonde
from extensions import other
print(own.Y, other.X, getattr(extensions, "Z", None), vandermonde.log_vandermonde.__module__)
"""
    found = python(code, tmp_path)
    assert found == f"2 1 {3 if packages else None} ecgcore.compat.state_spaces"


def test_a_folder_that_comes_onto_the_path_later_is_seen(tmp_path: Path) -> None:
    write(tmp_path / "project", extensions__other="X = 1", extensions__kernels__own="Y = 2")
    code = """
import sys
from ecgcore import compat
compat.install()
import extensions.kernels.cauchy
try:
    import extensions.other
except ModuleNotFoundError:
    sys.path.insert(0, "project")
import extensions.other, extensions.kernels.own
print(extensions.other.X, extensions.kernels.own.Y)
"""
    assert python(code, tmp_path) == "1 2"


EXISTING = """
from ecgcore import compat
try:
    compat.install()
except ImportError as error:
    assert "extensions.kernels.cauchy, " not in str(error)
    assert "extensions.kernels.cauchy exist already; install(force=True)" in str(error)
else:
    raise AssertionError
"""


def test_a_module_that_exists_is_replaced_only_by_force(tmp_path: Path) -> None:
    write(
        tmp_path,
        extensions__kernels__cauchy="cauchy_mult = 'theirs'",
        extensions__kernels__own="Y=2",
    )
    left_alone = "from extensions.kernels.cauchy import cauchy_mult; print(cauchy_mult)"
    assert python(EXISTING + left_alone, tmp_path) == "theirs"
    forced = """
compat.install(force=True)
compat.install()
from extensions.kernels.cauchy import cauchy_mult
from extensions.kernels import cauchy, own
assert cauchy.cauchy_mult is cauchy_mult
print(cauchy_mult.__module__, own.Y)
"""
    assert python(EXISTING + forced, tmp_path) == "ecgcore.compat.state_spaces 2"


def test_force_reaches_modules_that_were_imported_already(tmp_path: Path) -> None:
    write(tmp_path, extensions__kernels__cauchy="cauchy_mult = 'theirs'")
    code = """
import extensions.kernels.cauchy
from ecgcore import compat
compat.install(force=True)
print(extensions.kernels.cauchy.cauchy_mult.__module__)
"""
    assert python(code, tmp_path) == "ecgcore.compat.state_spaces"


def test_what_cannot_be_stood_in_for_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path, extension="X = 1")  # a module, where a package is needed
    code = """
import sys
from ecgcore import compat
before = list(sys.meta_path)
try:
    compat.install()
except ImportError as error:
    assert "cannot stand in for extension.cauchy.cauchy" in str(error), error
assert sys.meta_path == before and "structured_kernels" not in sys.modules
print("left")
"""
    assert python(code, tmp_path) == "left"


def test_a_function_that_is_wrong_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    code = """
import sys
from ecgcore import compat
right = compat.state_spaces.log_vandermonde_transpose
compat.state_spaces.log_vandermonde_transpose = lambda *x: 2 * right(*x)
try:
    compat.install()
except RuntimeError as error:
    assert "log_vandermonde_transpose gives wrong numbers" in str(error), error
try:
    import structured_kernels
except ModuleNotFoundError:
    print("left")
"""
    assert python(code, tmp_path) == "left"

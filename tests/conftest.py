"""What every test shares: seeds, devices, threads, the instruction sets of this processor."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from ecgcore import _native
from support import NO_SHARED, ROOT


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "one_isa: run on the best CPU instruction set only")
    config.addinivalue_line("markers", "no_sanitizer: leave out of the sanitizer run")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of the ops run on every CPU instruction set at hand, unless marked ``one_isa``."""
    if metafunc.definition.path.is_relative_to(ROOT / "tests" / "ops"):
        best_only = metafunc.definition.get_closest_marker("one_isa") is not None
        forced = "ECGCORE_CPU_ISA" in os.environ
        isas = [_native.cpu_isa()] if best_only or forced else _native.cpu_isas()
        metafunc.fixturenames.append("cpu_isa")
        metafunc.parametrize("cpu_isa", isas, indirect=True)


@pytest.fixture
def cpu_isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """The CPU instruction set the test runs on."""
    before = _native.cpu_isa()
    _native.set_cpu_isa(request.param)
    yield request.param
    _native.set_cpu_isa(before)


@pytest.fixture(autouse=True)
def seeds() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - seeds whatever a test or a library draws from the global state
    torch.manual_seed(0)


@pytest.fixture
def threads() -> Iterator[Any]:
    """``threads(n)`` sets the number of torch's threads until the end of the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(
    params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
    if torch.cuda.is_available()
    else ["cpu"]
)
def device(request: pytest.FixtureRequest) -> str:
    """Every device at hand. Where there is no GPU, ``python -m ecgcore.testing --device cuda`` is
    still owed."""
    return str(request.param)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    missing = [r for r in terminalreporter.getreports("skipped") if "fixtures" in str(r.longrepr)]
    if missing:
        terminalreporter.section("RECORDED FIXTURES MISSING", sep="!", red=True)
        terminalreporter.line(f"{len(missing)} tests were skipped: {NO_SHARED}")

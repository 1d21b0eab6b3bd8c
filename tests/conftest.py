"""What every test shares: seeds, devices, threads, the instruction sets of this processor."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import ecgcore
from ecgcore import _native
from support import NO_SHARED, ONE_BACKEND, ROOT


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "one_isa: run on the best CPU instruction set only")
    config.addinivalue_line("markers", "no_sanitizer: leave out of the sanitizer run")
    config.addinivalue_line("markers", "builds: compiles for minutes; starts first")
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        # KeOps does not expect that another process compiles the same formula.
        cache = ROOT / "build" / "keops" / worker
        cache.mkdir(parents=True, exist_ok=True)
        os.environ["KEOPS_CACHE_FOLDER"] = str(cache)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of the ops run on every CPU instruction set at hand, unless marked ``one_isa``.

    Those that ask for ``op_backend`` run on the other backends as well.
    """
    if metafunc.definition.path.is_relative_to(ROOT / "tests" / "ops"):
        best_only = metafunc.definition.get_closest_marker("one_isa") is not None
        forced = "ECGCORE_CPU_ISA" in os.environ
        best = _native.cpu_isa()
        isas = [best] if best_only or forced else _native.cpu_isas()
        if not metafunc.definition.path.stem.startswith("test_packed"):
            # The same kernels but for the packed products.
            alike = [isa for isa in ("avx512", "avx512_bf16", "amx_bf16") if isa in isas]
            isas = [isa for isa in isas if isa not in alike[:-1]]
        metafunc.fixturenames.append("cpu_isa")
        if "op_backend" in metafunc.fixturenames:
            runs = [pytest.param(isa, "native", id=isa) for isa in isas]
            runs += [
                pytest.param(best, name, id=name, marks=pytest.mark.no_sanitizer)
                for name in ("keops", "reference")
            ]
            metafunc.parametrize(("cpu_isa", "op_backend"), runs, indirect=True)
        else:
            metafunc.parametrize("cpu_isa", isas, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Cases of ops that know no backends run once. Builds start first, so that the processes of a
    parallel run end together."""
    kept = []
    for item in items:
        given = getattr(item, "callspec", None)
        params = {} if given is None else given.params
        op = getattr(params.get("case"), "op", params.get("op"))
        if params.get("op_backend", "native") == "native" or op not in ONE_BACKEND:
            kept.append(item)
    items[:] = sorted(kept, key=lambda item: item.get_closest_marker("builds") is None)


@pytest.fixture
def cpu_isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """The CPU instruction set the test runs on."""
    before = _native.cpu_isa()
    _native.set_cpu_isa(request.param)
    yield request.param
    _native.set_cpu_isa(before)


@pytest.fixture
def op_backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The backend of the ops that the test runs on."""
    with ecgcore.backend(request.param):
        yield request.param


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

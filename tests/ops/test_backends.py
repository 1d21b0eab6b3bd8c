"""The choice of a backend: explicit, quiet, and an error where it cannot be had."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ecgcore
from ecgcore import ops
from ecgcore.testing import relative_error
from support import recorded

pytestmark = [pytest.mark.one_isa, pytest.mark.no_sanitizer]

CALL = """
import torch, ecgcore
v, w = (torch.randn(2, 3, dtype=torch.complex64, requires_grad=True) for _ in "vw")
with ecgcore.backend("keops"):
    ecgcore.ops.cauchy(v, torch.randn(5, dtype=torch.complex64), w).abs().sum().backward()
"""


def call_with_keops(cache: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A first call on KeOps in a new process that has compiled nothing before."""
    return subprocess.run(
        [sys.executable, "-c", CALL],
        env=os.environ | {"KEOPS_CACHE_FOLDER": str(cache)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_compiling_for_keops_says_nothing(tmp_path: Path) -> None:
    run = call_with_keops(tmp_path)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_what_keops_cannot_compile_is_an_error_of_the_op(tmp_path: Path) -> None:
    run = call_with_keops(tmp_path, CXX="false")
    assert run.returncode != 0
    last = run.stderr[run.stderr.rindex("RuntimeError") :]
    assert "ecgcore.backend: PyKeOps could not compile or run its formula on cpu" in last
    assert "Compiling" in last


def test_keops_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert ecgcore.backends()["keops"] == {"available": False}
    with (
        pytest.raises(ImportError, match=r"not installed: pip install 'ecgcore\[keops\]'"),
        ecgcore.backend("keops"),
    ):
        pass
    assert ecgcore.backends()["current"] == "native"


def test_the_backend_is_the_callers_from_the_block_to_the_derivative() -> None:
    assert ecgcore.backends()["keops"] == {"available": True}
    v, z, w = (torch.randn(4, dtype=torch.complex64) for _ in "vzw")
    v.requires_grad_()
    names = {}
    for name in ("native", "keops", "reference"):
        with ecgcore.backend(name):
            assert ecgcore.backends()["current"] == name
            names[name] = type(ops.cauchy(v, z, w).grad_fn).__name__
    assert len(set(names.values())) == 3
    assert ecgcore.backends()["current"] == "native"


def test_float32_gradients_are_finite_next_to_nyquist() -> None:
    """The node where omega rounds to almost -1: |z| = 1.6e7, |z|^4 still fits, its square not."""
    data = recorded("cauchy__sym_c64_fftnodes64")
    v, z, w = (data[f"in/{k}"].requires_grad_() for k in "vzw")
    assert z.abs().max() > 1e7
    with ecgcore.backend("keops"):
        out = ops.cauchy(v, z, w)
    for gradient in torch.autograd.grad(out, (v, z, w), data["in/cot"]):
        assert torch.view_as_real(gradient).isfinite().all()


@pytest.mark.slow
def test_keops_offers_second_derivatives() -> None:
    v, w = (torch.randn(2, 3, dtype=torch.complex128, requires_grad=True) for _ in "vw")
    z = torch.randn(2, dtype=torch.complex128) + 4
    with ecgcore.backend("keops"):
        assert torch.autograd.gradgradcheck(
            lambda *x: ops.cauchy(*x), (v, z.requires_grad_(), w), atol=1e-6, rtol=1e-4
        )


def test_keops_breaks_a_compiled_graph_and_stays_right() -> None:
    v, z, w = (torch.randn(4, dtype=torch.complex64) for _ in "vzw")
    with ecgcore.backend("keops"):
        compiled = torch.compile(ops.cauchy, backend="eager")
        assert relative_error(compiled(v, z, w), ops.reference.cauchy(v, z, w)) < 1e-5
    torch.compiler.reset()


@pytest.mark.parametrize("name", ["keops", "reference"])
def test_layouts_do_not_matter(name: str) -> None:
    """Transposed, strided, lazily conjugated and expanded arguments, and such a gradient."""
    v = torch.randn(7, 3, dtype=torch.complex128).T.conj().requires_grad_()
    w = torch.randn(2, 1, 14, dtype=torch.complex128)[..., ::2].requires_grad_()
    z = torch.randn(5, 2, dtype=torch.complex128)[:, 0].requires_grad_()
    g = torch.randn(1, dtype=torch.complex128).expand(2, 3, 5)
    with ecgcore.backend(name):
        found = ops.cauchy(v, z, w)
    expected = ops.cauchy(v, z, w)
    assert relative_error(found, expected) < 1e-13
    pairs = (torch.autograd.grad(r, (v, z, w), g) for r in (found, expected))
    for a, b in zip(*pairs, strict=True):
        assert relative_error(a, b) < 1e-12

"""The NPLR kernel against recordings of the reference: every option, outputs and gradients."""

from __future__ import annotations

import pytest
import torch

import ecgcore
from ecgcore.testing.compare import relative_error
from s4_checks import check_kernel_grads, first_generation, run_kernel
from support import recorded, recorded_names

NAMES = recorded_names("s4nplr__*", exclude=("s4nplr__compat_halfsum*",))


@pytest.mark.parametrize("backend", ["native", "keops", "reference"])
@pytest.mark.parametrize("name", NAMES)
def test_float32_with_the_stored_nodes(name, backend):
    r = recorded(name)
    with ecgcore.backend(backend):
        K, K_state, grads = run_kernel(first_generation(r), r, torch.float32)
    assert K.shape[-1] == r.config["L_returned"]
    assert relative_error(K, r["out/K"]) <= 1e-5
    assert relative_error(K, r["out64/K_f32nodes"]) <= 1e-5
    if K_state is not None:
        assert relative_error(K_state, r["out/K_state"]) <= 1e-5
        assert relative_error(K_state, r["out64/K_state"]) <= 1e-5
    check_kernel_grads(grads, r, "grad", 1e-3, 5e-4)
    check_kernel_grads(grads, r, "grad64", 1e-3, 5e-4)


@pytest.mark.parametrize("name", NAMES)
def test_float32_with_exact_nodes(name):
    r = recorded(name)
    K, K_state, grads = run_kernel(first_generation(r, exact_nodes=True), r, torch.float32)
    assert relative_error(K, r["out64/K"]) <= 1e-5
    assert relative_error(K, r["out/K"]) <= 5e-4
    if K_state is not None:
        assert relative_error(K_state, r["out64/K_state"]) <= 1e-5
    check_kernel_grads(grads, r, "grad64", 1e-3, 5e-4)


@pytest.mark.parametrize("name", NAMES)
def test_float64_with_exact_nodes(name):
    r = recorded(name)
    kernel = first_generation(r, exact_nodes=True)
    if r.config[
        "doublings"
    ]:  # the recorded truth doubles in single precision, then goes on in double
        kernel.load_state_dict(r.under("state_after_double"))
    K, K_state, grads = run_kernel(kernel, r, torch.float64)
    assert relative_error(K, r["out64/K"]) <= 1e-10
    if K_state is not None:
        assert relative_error(K_state, r["out64/K_state"]) <= 1e-10
    check_kernel_grads(grads, r, "grad64", 1e-8, 1e-8)


@pytest.mark.parametrize("name", recorded_names("s4nplr__*double*"))
def test_doubling_leaves_the_state_the_reference_leaves(name):
    r = recorded(name)
    kernel = first_generation(r)
    kernel(L=r.config["L_requested"])
    assert r.config["L_internal"] == kernel.L
    for key, expected in r.under("state_after_double").items():
        assert relative_error(kernel.state_dict()[key], expected) <= 1e-5, key
    loaded = first_generation(r)
    loaded.load_state_dict(r.under("state_after_double"))
    assert kernel.L == loaded.L
    assert relative_error(loaded()[0], r["out/K"]) <= 1e-5

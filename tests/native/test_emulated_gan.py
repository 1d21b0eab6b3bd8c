# SPDX-License-Identifier: MIT
"""The CUDA kernels of phase shuffle and conditional batch normalisation on the host emulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ecgcore import _C, ops
from ecgcore.ops import reference
from ecgcore.testing.cases import ConditionalBatchNormCase, PhaseShuffleCase
from emulation import REAL, assert_close, in_every_order

# Tiles are 1024 elements of a sample: rows shorter, longer, and of exactly that.
SHUFFLES = [(2, 2, 1), (3, 2, 2), (4, 3, 7), (3, 40, 61), (2, 2, 1023), (2, 3, 1024), (2, 2, 2500)]
ACTIVATIONS = (None, "relu", "leaky_relu", "tanh")


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize(("B", "C", "L"), SHUFFLES)
def test_phase_shuffle_and_its_adjoint(B: int, C: int, L: int, dtype: str) -> None:
    drawn = PhaseShuffleCase(B=B, C=C, L=L).inputs(getattr(torch, dtype))
    x, shifts = drawn["x"], drawn["shifts"]
    real = torch.float64 if dtype == "float64" else torch.float32
    for emulated, native in (
        (_C.emulate.phase_shuffle, torch.ops.ecgcore.phase_shuffle),
        (_C.emulate.phase_shuffle_adjoint, torch.ops.ecgcore.phase_shuffle_adjoint),
    ):
        (out,) = in_every_order(emulated, x.to(real).numpy(), shifts.numpy(), dtype)
        assert torch.equal(torch.from_numpy(out), native(x, shifts).to(real))


def test_a_sample_shifted_too_far_becomes_nan_and_no_other() -> None:
    x = np.ones((3, 2, 5), np.float32)
    for shift in (5, -5, 2**62, -(2**63)):
        for emulated in (_C.emulate.phase_shuffle, _C.emulate.phase_shuffle_adjoint):
            (out,) = in_every_order(emulated, x, np.array([4, shift, -4]), "float32")
            assert np.isnan(out[1]).all()
            assert np.isfinite(out[[0, 2]]).all()


def test_phase_shuffle_of_nothing() -> None:
    for shape in ((0, 2, 5), (2, 0, 5)):
        x = np.ones(shape, np.float32)
        (out,) = in_every_order(
            _C.emulate.phase_shuffle, x, np.zeros(shape[0], np.int64), "float32"
        )
        assert out.shape == shape


# (batch, features, length): moments go by 256 threads and chunks of 4096 values, statistics and
# means by 64, sums by 4 rows and 32 threads.
NORMS = [(2, 1, 1), (3, 2, 1), (2, 5, 7), (3, 65, 33), (5, 2, 256), (5, 3, 2000), (70, 2, 130)]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("B", "F", "L"), NORMS)
def test_conditional_batch_norm(
    B: int, F: int, L: int, dtype: str, training: bool, activation: str | None
) -> None:
    case = ConditionalBatchNormCase(B=B, F=F, L=L, training=training, activation=activation)
    drawn = case.inputs(getattr(torch, dtype))
    arrays = [drawn[k].numpy() for k in ("x", "gamma", "beta")]
    running = [None if training else drawn[f"running_{k}"].numpy() for k in ("mean", "var")]
    number = ACTIVATIONS.index(activation)
    y, statistics = in_every_order(
        _C.emulate.conditional_batch_norm, *arrays, *running, 1e-5, number, 0.01
    )
    exact: dict[str, Any] = {
        k: v.double() if isinstance(v, torch.Tensor) else v for k, v in drawn.items()
    }
    leaves = [exact[k].requires_grad_() for k in ("x", "gamma", "beta")]
    want = reference.conditional_batch_norm(**exact)
    # Two or three values a feature: their differences have lost digits before they are divided.
    loss = 100 if training and B * L < 4 else 2
    assert_close(y / loss, want / loss, dtype, scale=float(want.detach().abs().max()))

    dy = np.random.default_rng(1).standard_normal(y.shape).astype(REAL[dtype])
    got = in_every_order(
        _C.emulate.conditional_batch_norm_backward,
        dy,
        *arrays,
        statistics,
        training,
        number,
        0.01,
        True,
        True,
    )
    gradients = torch.autograd.grad(want, leaves, torch.from_numpy(dy).double())
    terms = float(np.abs(dy).max() / np.sqrt(exact["x"].detach().var(unbiased=False).item()))
    for name, one, gradient in zip(("x", "gamma", "beta"), got, gradients, strict=True):
        if name == "x" and training and B * L < 4:
            continue  # nearly zero: the formula's terms are large and cancel
        scale = max(float(gradient.abs().max()), terms if name == "x" else 0.0)
        assert_close(one / 4, gradient / 4, dtype, scale=scale)


def test_the_moments_of_a_feature_far_from_zero_keep_their_digits() -> None:
    x = (1000 + np.random.default_rng(0).standard_normal((9, 2, 700))).astype(np.float32)
    rows = np.ones((9, 2), np.float32)
    _, statistics = in_every_order(
        _C.emulate.conditional_batch_norm, x, rows, rows, None, None, 1e-5, 0, 0.0
    )
    wide = x.astype(np.float64)
    np.testing.assert_allclose(statistics[0], wide.mean((0, 2)), rtol=1e-6)
    np.testing.assert_allclose(
        statistics[1], wide.transpose(1, 0, 2).reshape(2, -1).var(-1, ddof=1), rtol=1e-5
    )


def test_gradients_that_are_not_wanted_are_not_written() -> None:
    x = np.ones((2, 3, 4), np.float32)
    rows = np.ones((2, 3), np.float32)
    statistics = np.ones((3, 3), np.float32)
    arguments = (x, x, rows, rows, statistics, False, 0, 0.0)
    run = _C.emulate.conditional_batch_norm_backward
    dx, dgamma, dbeta = in_every_order(run, *arguments, True, False)
    assert np.isfinite(dx).all()
    assert np.isnan(dgamma).all()
    assert np.isnan(dbeta).all()
    dx, dgamma, dbeta = in_every_order(run, *arguments, False, True)
    assert np.isnan(dx).all()
    assert np.isfinite(dgamma).all()
    assert np.isfinite(dbeta).all()


def test_conditional_batch_norm_of_nothing() -> None:
    for B, F in ((0, 3), (2, 0)):
        x, rows = np.ones((B, F, 4), np.float32), np.ones((B, F), np.float32)
        y, statistics = in_every_order(
            _C.emulate.conditional_batch_norm, x, rows, rows, None, None, 1e-5, 1, 0.0
        )
        assert y.shape == x.shape
        assert np.isfinite(statistics).all()
        dx, dgamma, _ = in_every_order(
            _C.emulate.conditional_batch_norm_backward,
            x,
            x,
            rows,
            rows,
            statistics,
            True,
            1,
            0.0,
            True,
            True,
        )
        assert (dx.shape, dgamma.shape) == (x.shape, rows.shape)


def test_the_adjoint_is_the_gradient_of_the_shuffle() -> None:
    """The bare adjoint against torch's own scatter."""
    x = torch.randn(4, 2, 9, requires_grad=True)
    shifts = torch.tensor([8, -8, 0, 3])
    dy = torch.randn(4, 2, 9)
    (expected,) = torch.autograd.grad(ops.reference.phase_shuffle(x, shifts), x, dy)
    (out,) = in_every_order(_C.emulate.phase_shuffle_adjoint, dy.numpy(), shifts.numpy(), "float32")
    assert torch.equal(torch.from_numpy(out), expected)

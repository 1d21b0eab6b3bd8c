"""The long convolution: its meaning, sample by sample, every transform length, and the gradients
that need care. What all ops promise is in ``test_contract.py``."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import ecgcore
from ecgcore.ops import reference, s4_conv
from ecgcore.testing.compare import relative_error


def _inputs(
    B: int, H: int, L: int, n: int | None = None, C: int = 1, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    n = 2 * L if n is None else n
    real = torch.float64 if dtype == torch.float64 else torch.float32
    spectrum = torch.fft.rfft(torch.randn(C, H, n, dtype=real) / n**0.5)
    return torch.randn(B, H, L).to(dtype), spectrum, torch.randn(C, H, dtype=real)


def _double(*tensors: Tensor) -> list[Tensor]:
    return [t.to(torch.complex128 if t.is_complex() else torch.float64) for t in tensors]


def test_two_sided_kernel_means_what_the_docstring_says() -> None:
    """y_t = sum_j k0[j] u[t-j] + sum_j k1[j] u[t+1+j], summed by hand."""
    H, L = 2, 7
    u = torch.randn(1, H, L, dtype=torch.float64)
    k0, k1 = torch.randn(2, H, L, dtype=torch.float64)
    spectrum = torch.fft.rfft(torch.cat([k0, k1.flip(-1)], -1))[None]
    expected = torch.zeros(H, L, dtype=torch.float64)
    for t in range(L):
        for j in range(L):
            if t - j >= 0:
                expected[:, t] += k0[:, j] * u[0, :, t - j]
            if t + 1 + j < L:
                expected[:, t] += k1[:, j] * u[0, :, t + 1 + j]
    torch.testing.assert_close(s4_conv(u, spectrum)[0, 0], expected)


@pytest.mark.parametrize(
    ("L", "n"),
    [(L, 2 * L) for L in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 16, 21, 25, 27, 49, 63, 64)]
    + [(L, 2 * L) for L in (100, 125, 343, 500, 512, 625, 1000, 1024, 2048, 2500)]
    + [(1000, 2048), (1, 2000), (999, 2000), (11, 32), (1001, 2100), (40, 4096)],
)
def test_every_transform_length_against_double_precision(L: int, n: int) -> None:
    u, spectrum, D = _inputs(2, 3, L, n)
    truth = reference.s4_conv(*_double(u, spectrum, D))
    limit = 1.5 * relative_error(reference.s4_conv(u, spectrum, D), truth) + 1e-6
    assert relative_error(s4_conv(u, spectrum, D), truth) < limit
    wide = s4_conv(*_double(u, spectrum, D))
    assert relative_error(wide, truth) < 1e-14


@pytest.mark.parametrize(("L", "n"), [(11, 22), (13, 26), (37, 74), (1009, 2018), (8, 34), (1, 26)])
def test_lengths_with_other_prime_factors(L: int, n: int) -> None:
    u, spectrum, D = _inputs(2, 3, L, n, C=2)
    leaves = [t.requires_grad_() for t in (u, spectrum, D)]
    wide = [t.detach().requires_grad_() for t in _double(*leaves)]
    got = s4_conv(*leaves, activation="gelu")
    truth = reference.s4_conv(*wide, activation="gelu")
    assert relative_error(got, truth) < 2e-6
    for a, b in zip(
        torch.autograd.grad(got.square().sum(), leaves),
        torch.autograd.grad(truth.square().sum(), wide),
        strict=True,
    ):
        assert relative_error(a, b) < 5e-6


@pytest.mark.parametrize("H", [1, 2, 3, 7, 8, 9, 15, 16, 17, 33])
def test_every_number_of_features_fills_its_lanes(H: int) -> None:
    u, spectrum, D = _inputs(3, H, 20, C=2)
    truth = reference.s4_conv(*_double(u, spectrum, D), activation="gelu")
    assert relative_error(s4_conv(u, spectrum, D, activation="gelu"), truth) < 2e-6


def test_error_at_the_length_of_an_ecg_is_that_of_torch() -> None:
    u, spectrum, D = _inputs(4, 64, 1000)
    for activation in (None, "gelu"):
        truth = reference.s4_conv(*_double(u, spectrum, D), activation=activation)
        own = (s4_conv(u, spectrum, D, activation=activation) - truth).norm()
        torchs = (reference.s4_conv(u, spectrum, D, activation=activation) - truth).norm()
        assert own <= 1.5 * torchs


def test_a_delta_gives_the_signal_back() -> None:
    u = torch.randn(1, 5, 1000)
    y = s4_conv(u, torch.ones(1, 5, 1001, dtype=torch.complex64))
    torch.testing.assert_close(y[:, 0], u, atol=2e-6, rtol=0)


def test_imaginary_parts_at_the_ends_of_the_spectrum_have_no_effect_and_no_gradient() -> None:
    u, spectrum, D = _inputs(2, 3, 9)
    disturbed = spectrum.clone()
    disturbed[..., [0, -1]] += 2j
    assert torch.equal(s4_conv(u, spectrum, D), s4_conv(u, disturbed, D))
    disturbed.requires_grad_()
    (gradient,) = torch.autograd.grad(s4_conv(u, disturbed, D).square().sum(), disturbed)
    assert torch.equal(gradient[..., [0, -1]].imag, torch.zeros(1, 3, 2))
    assert gradient[..., 1:-1].imag.abs().min() > 0


@pytest.mark.parametrize("activation", [None, "gelu"])
@pytest.mark.parametrize("n", [2000, 2048])
def test_gradients_at_the_length_of_an_ecg(n: int, activation: str | None) -> None:
    leaves = [t.requires_grad_() for t in _inputs(3, 9, 1000, n, C=2)]
    wide = [t.detach().requires_grad_() for t in _double(*leaves)]
    dy = torch.randn(3, 2, 9, 1000)

    def gradients(function: object, inputs: list[Tensor]) -> tuple[Tensor, ...]:
        y = function(*inputs, activation=activation)  # type: ignore[operator]
        return torch.autograd.grad(y, inputs, dy.to(y.dtype))

    truth = gradients(reference.s4_conv, wide)
    chain = gradients(reference.s4_conv, leaves)
    for own, torchs, exact in zip(gradients(s4_conv, leaves), chain, truth, strict=True):
        limit = 1.5 * relative_error(torchs, exact) + 5e-7
        assert relative_error(own, exact) < limit


def test_the_batch_is_summed_in_one_order(threads: object) -> None:
    leaves = [t.requires_grad_() for t in _inputs(5, 40, 125)]
    found = []
    for count in (1, 2, 3):
        threads(count)  # type: ignore[operator]
        y = s4_conv(*leaves, activation="gelu")
        found.append((y, *torch.autograd.grad(y.sum(), leaves)))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    u, spectrum, D = _inputs(4, 19, 50)
    y = s4_conv(u, spectrum, D, activation="gelu")
    alone = s4_conv(u[2:3], spectrum, D, activation="gelu")
    assert torch.equal(y[2:3], alone)
    poisoned = u.clone()
    poisoned[:, 5] = float("nan")
    others = [h for h in range(19) if h != 5]
    assert torch.equal(
        s4_conv(poisoned, spectrum, D, activation="gelu")[:, :, others], y[:, :, others]
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_the_float32_result_rounded(dtype: torch.dtype) -> None:
    u, spectrum, D = _inputs(2, 9, 37, dtype=dtype)
    y = s4_conv(u, spectrum, D, activation="gelu")
    assert torch.equal(y, s4_conv(u.float(), spectrum, D, activation="gelu").to(dtype))
    u.requires_grad_()
    (du,) = torch.autograd.grad(s4_conv(u, spectrum, D, activation="gelu"), u, torch.ones_like(y))
    wide = u.detach().float().requires_grad_()
    (truth,) = torch.autograd.grad(
        s4_conv(wide, spectrum, D, activation="gelu"), wide, torch.ones_like(y).float()
    )
    assert torch.equal(du, truth.to(dtype))


def test_empty_batch_has_zero_gradients_of_the_parameters() -> None:
    u, spectrum, D = (t.requires_grad_() for t in _inputs(0, 3, 10, C=2))
    y = s4_conv(u, spectrum, D, activation="gelu")
    assert y.shape == (0, 2, 3, 10)
    for gradient in torch.autograd.grad(y.sum(), [spectrum, D]):
        assert torch.count_nonzero(gradient) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"u": torch.randn(3, 8)}, r"u must have shape \(B, H, L\), got \(3, 8\)"),
        ({"u": torch.randn(2, 3, 0)}, r"u must have L >= 1, got \(2, 3, 0\)"),
        (
            {"u": torch.zeros(2, 3, 8, dtype=torch.int64)},
            "u must be float32 or float64 or bfloat16",
        ),
        ({"u": torch.randn(2, 3, 9)}, r"H = 3 and F >= L \+ 1 = 10, got \(1, 3, 9\)"),
        ({"spectrum": torch.randn(1, 3, 9)}, "spectrum must be complex64, got float32"),
        ({"spectrum": torch.randn(1, 4, 9, dtype=torch.complex64)}, r"got \(1, 4, 9\)"),
        ({"D": torch.randn(3)}, r"D must have shape \(C, H\) = \(1, 3\), got \(3,\)"),
        ({"D": torch.randn(1, 3, dtype=torch.float64)}, "D must be float32, got float64"),
        ({"activation": "relu"}, "activation must be None or 'gelu', got 'relu'"),
    ],
)
def test_wrong_arguments_name_what_was_expected(change: dict[str, object], message: str) -> None:
    u, spectrum, D = _inputs(2, 3, 8)
    arguments: dict[str, object] = {"u": u, "spectrum": spectrum, "D": D, "activation": None}
    with pytest.raises(ValueError, match=message):
        s4_conv(**{**arguments, **change})  # type: ignore[arg-type]


def test_the_bare_operator_checks_too() -> None:
    op = torch.ops.ecgcore.s4_conv
    u, spectrum, _ = _inputs(1, 2, 11)
    with pytest.raises(RuntimeError, match=r"n = 2 \(F - 1\) must have no prime factor above 7"):
        op(u, spectrum, None, False)
    with pytest.raises(RuntimeError, match="u must be contiguous"):
        op(u.mT.contiguous().mT, spectrum, None, False)
    with pytest.raises(RuntimeError, match="D must have shape"):
        op(torch.randn(1, 2, 10), torch.fft.rfft(torch.randn(1, 2, 20)), torch.randn(2), False)


@pytest.mark.one_isa
def test_every_instruction_set_agrees(cpu_isa: str) -> None:
    u, spectrum, D = _inputs(2, 17, 100)
    own = s4_conv(u, spectrum, D, activation="gelu")
    for isa in ecgcore._native.cpu_isas():
        ecgcore._native.set_cpu_isa(isa)
        torch.testing.assert_close(
            s4_conv(u, spectrum, D, activation="gelu"), own, atol=2e-6, rtol=0
        )

# SPDX-License-Identifier: MIT
"""The convolution on rows: the same numbers as s4_conv, in any batch, written where they belong."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ecgcore import _native, ops
from ecgcore.ops import reference
from ecgcore.testing.compare import relative_error

SPECTRUM_OF = {torch.float64: torch.complex128}


def _inputs(
    B: int, L: int, H: int, n: int | None = None, C: int = 1, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    n = 2 * L if n is None else n
    real = torch.float64 if dtype == torch.float64 else torch.float32
    spectrum = torch.fft.rfft(torch.randn(C, H, n, dtype=real) / n**0.5)
    return torch.randn(B, L, H).to(dtype), spectrum, torch.randn(C, H, dtype=real)


def _run(u: Tensor, spectrum: Tensor, D: Tensor | None, gelu: bool = False) -> Tensor:
    B, L, H = u.shape
    out = torch.full((B, L, spectrum.shape[0] * H), float("nan"), dtype=u.dtype)
    return ops.s4_conv_rows(u, ops.s4_conv_table(spectrum, D), out, gelu=gelu)


def _expected(u: Tensor, spectrum: Tensor, D: Tensor | None, gelu: bool = False) -> Tensor:
    y = ops.s4_conv(u.mT, spectrum, D, activation="gelu" if gelu else None)
    return y.permute(0, 3, 1, 2).flatten(2)


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("H", [1, 2, 3, 5, 8, 9, 15, 16, 17, 24, 33, 64, 65])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_every_number_of_features(dtype: torch.dtype, H: int, gelu: bool) -> None:
    """Lane by lane s4_conv's own arithmetic, to the last bit."""
    u, spectrum, D = _inputs(2, 20, H, C=2, dtype=dtype)
    assert torch.equal(_run(u, spectrum, D, gelu), _expected(u, spectrum, D, gelu))


@pytest.mark.parametrize(
    ("L", "n"),
    [(L, 2 * L) for L in (1, 2, 3, 5, 8, 12, 49, 125, 1000)]
    + [(1000, 2048), (1, 2000), (11, 32), (40, 4096), (11, 22), (37, 74), (8, 34)],
)
def test_every_length(L: int, n: int) -> None:
    u, spectrum, D = _inputs(2, L, 3, n)
    truth = torch.empty(2, L, 3, dtype=torch.float64)
    wide = [t.to(torch.complex128 if t.is_complex() else torch.float64) for t in (u, spectrum, D)]
    reference.s4_conv_rows(wide[0], reference.s4_conv_table(wide[1], wide[2]), truth, gelu=True)
    assert relative_error(_run(u, spectrum, D, gelu=True), truth) < 3e-6
    assert relative_error(_run(*wide, gelu=True), truth) < 1e-13


def test_nothing_around_out_is_touched() -> None:
    """Rows that do not fill their lanes end with the memory they were given."""
    u, spectrum, D = _inputs(3, 7, 5)
    memory = torch.full((3 * 7 * 5 + 64,), 7.0)
    out = memory[32:-32].view(3, 7, 5)
    ops.s4_conv_rows(u, ops.s4_conv_table(spectrum, D), out)
    assert torch.equal(out, _expected(u, spectrum, D))
    assert torch.equal(memory[:32], torch.full((32,), 7.0))
    assert torch.equal(memory[-32:], torch.full((32,), 7.0))


def test_a_record_has_the_same_bits_in_any_batch_and_on_any_threads(threads: Any) -> None:
    u, spectrum, D = _inputs(5, 250, 96)
    table = ops.s4_conv_table(spectrum, D)
    threads(1)
    whole = ops.s4_conv_rows(u, table, torch.empty_like(u), gelu=True)
    for count in (1, 2, 3, 40):
        threads(count)
        assert torch.equal(ops.s4_conv_rows(u, table, torch.empty_like(u), gelu=True), whole)
        for b in range(5):
            one = ops.s4_conv_rows(u[b : b + 1], table, torch.empty(1, 250, 96), gelu=True)
            assert torch.equal(one[0], whole[b])


def test_a_nan_stays_in_its_own_signal() -> None:
    u, spectrum, D = _inputs(2, 10, 9)
    expected = _expected(u, spectrum, D)
    u[1, 3, 4] = float("nan")
    found = _run(u, spectrum, D)
    assert torch.isnan(found[1, :, 4]).all()
    found[1, :, 4] = expected[1, :, 4]
    assert torch.equal(found, expected)


def test_strided_signals_and_lazy_spectra() -> None:
    u, spectrum, D = _inputs(2, 10, 9)
    apart = torch.randn(2, 10, 18)[:, :, ::2].copy_(u)
    lazy = spectrum.conj().resolve_conj().conj()
    assert torch.equal(_run(apart, lazy, torch._neg_view(-D)), _run(u, spectrum, D))
    assert torch.equal(_run(u, spectrum, None), _run(u, spectrum, torch.zeros_like(D)))


def test_empty_batches() -> None:
    u, spectrum, D = _inputs(0, 10, 9, C=2)
    assert _run(u, spectrum, D).shape == (0, 10, 18)


def test_the_table_is_a_copy() -> None:
    u, spectrum, D = _inputs(1, 10, 9)
    table = ops.s4_conv_table(spectrum, D)
    before = _expected(u, spectrum, D)
    spectrum.zero_()
    D.zero_()
    assert torch.equal(ops.s4_conv_rows(u, table, torch.empty_like(u)), before)


@pytest.mark.one_isa
def test_a_table_of_another_instruction_set_is_refused() -> None:
    levels = _native.cpu_isas()
    if len(levels) < 2:
        pytest.skip("one instruction set only")
    u, spectrum, D = _inputs(1, 10, 64)
    before = _native.cpu_isa()
    try:
        _native.set_cpu_isa(levels[0])
        table = ops.s4_conv_table(spectrum, D)
        _native.set_cpu_isa(levels[-1])
        with pytest.raises(RuntimeError, match=r"s4_conv_rows: table must have shape .*lanes = "):
            ops.s4_conv_rows(u, table, torch.empty_like(u))
    finally:
        _native.set_cpu_isa(before)


def test_gradients_are_refused() -> None:
    u, spectrum, D = _inputs(1, 10, 9)
    table = ops.s4_conv_table(spectrum, D)
    with pytest.raises(RuntimeError, match="s4_conv_table: made for inference"):
        ops.s4_conv_table(spectrum.requires_grad_(), D)
    with pytest.raises(RuntimeError, match="s4_conv_table: made for inference"):
        torch.ops.ecgcore.s4_conv_table(spectrum, D).sum().backward()
    with pytest.raises(RuntimeError, match="s4_conv_rows: made for inference"):
        ops.s4_conv_rows(u.requires_grad_(), table, torch.empty(1, 10, 9))
    with torch.no_grad():
        out = torch.empty(1, 10, 9)
        version = out._version
        ops.s4_conv_rows(u, table, out)
        assert out._version > version


BAD: list[tuple[dict[str, Any], str]] = [
    ({"u": torch.zeros(1, 10)}, r"u must have shape \(B, L, H\), got \(1, 10\)"),
    ({"u": torch.zeros(1, 10, 9, dtype=torch.int64)}, "u must be float32 .* got int64"),
    ({"u": torch.zeros(1, 11, 9)}, r"out must have shape .*\(1, 11, 9\), got \(1, 10, 9\)"),
    (
        {"u": torch.zeros(1, 11, 9), "out": torch.zeros(1, 11, 9)},
        r"u must have shape .* L <= F - 1 = 10 .* got \(1, 11, 9\)",
    ),
    (
        {"u": torch.zeros(1, 10, 90), "out": torch.zeros(1, 10, 90)},
        r"u must have shape .* got \(1, 10, 90\)",
    ),
    ({"u": torch.zeros(1, 10, 9).double()}, "table must be float64, got float32"),
    ({"table": torch.zeros(3, 3)}, r"table must have shape .* got \(3, 3\)"),
    ({"out": torch.zeros(1, 10, 8)}, r"out must have shape .*\(1, 10, 9\), got \(1, 10, 8\)"),
    ({"out": torch.zeros(1, 10, 9).double()}, "out must be float32, got float64"),
    ({"out": torch.zeros(1, 9, 10).mT}, "out must be contiguous"),
    ({"out": torch.zeros(1, 10, 9, device="meta")}, "out must be on cpu, got meta"),
]


@pytest.mark.one_isa
@pytest.mark.parametrize(("change", "match"), BAD)
def test_bad_arguments_are_named(change: dict[str, Any], match: str) -> None:
    u, spectrum, D = _inputs(1, 10, 9)
    given = {"u": u, "table": ops.s4_conv_table(spectrum, D), "out": torch.empty_like(u)}
    with pytest.raises((ValueError, RuntimeError), match=f"ecgcore::s4_conv_rows: {match}"):
        ops.s4_conv_rows(**{**given, **change})
    if "meta" in match:  # torch then asks the fake kernel alone
        return
    with pytest.raises(RuntimeError, match="ecgcore::s4_conv_rows: "):
        torch.ops.ecgcore.s4_conv_rows(*{**given, **change}.values(), False)


@pytest.mark.one_isa
def test_more_bad_arguments_are_named() -> None:
    u, spectrum, D = _inputs(1, 10, 9)
    table = ops.s4_conv_table(spectrum, D)
    for name in ("u", "table", "out"):
        given = {"u": u, "table": table, "out": torch.empty_like(u), name: [1.0]}
        with pytest.raises(TypeError, match=f"s4_conv_rows: {name} must be a tensor, got list"):
            ops.s4_conv_rows(**given)
    with pytest.raises(RuntimeError, match="out must not share memory with u"):
        ops.s4_conv_rows(u, table, u)
    with pytest.raises(ValueError, match=r"s4_conv_table: D must have shape .*\(1, 9\), got \(9,"):
        ops.s4_conv_table(spectrum, D[0])
    with pytest.raises(ValueError, match="s4_conv_table: spectrum must be complex64 or"):
        ops.s4_conv_table(spectrum.real, D)
    with pytest.raises(ValueError, match="s4_conv_table: D must be float32, got float64"):
        ops.s4_conv_table(spectrum, D.double())


@pytest.mark.one_isa
@pytest.mark.no_sanitizer
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_fake_kernels_and_schemas(dtype: torch.dtype) -> None:
    u, spectrum, D = _inputs(2, 10, 9, C=2, dtype=dtype)
    out = torch.empty(2, 10, 18, dtype=dtype)
    torch.library.opcheck(torch.ops.ecgcore.s4_conv_table, (spectrum, D))
    torch.library.opcheck(torch.ops.ecgcore.s4_conv_table, (spectrum, None))
    table = ops.s4_conv_table(spectrum, D)
    torch.library.opcheck(torch.ops.ecgcore.s4_conv_rows, (u, table, out, True))


@pytest.mark.one_isa
@pytest.mark.no_sanitizer
def test_compiles_without_a_graph_break() -> None:
    u, spectrum, D = _inputs(2, 10, 9)
    torch.compiler.reset()
    compiled = torch.compile(_run, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(u, spectrum, D), _run(u, spectrum, D))

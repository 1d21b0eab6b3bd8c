# SPDX-License-Identifier: MIT
"""``warp_paths``, beyond what every op promises (test_contract.py)."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from ecgcore import ops
from ecgcore.testing import relative_error

FLOATS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
KINDS = pytest.mark.parametrize("largest", [False, True], ids=["sum", "largest"])


def paths(x: Tensor, y: Tensor, *, largest: bool = False) -> Tensor:
    return ops.warp_paths(x, y, x.new_full((len(x), len(y)), float("nan")), largest=largest)


def cell_by_cell(x: Tensor, y: Tensor, *, largest: bool) -> float:
    """Of one pair ``(C, L)``, ``(C, M)``."""
    costs = (x[:, :, None] - y[:, None]).double().square().sum(0)
    L, M = costs.shape
    table = torch.full((L + 1, M + 1), float("inf"), dtype=torch.float64)
    table[0, 0] = 0
    for i in range(L):
        for j in range(M):
            least = table[i : i + 2, j : j + 2].flatten()[:3].min()
            cost = costs[i, j]
            table[i + 1, j + 1] = torch.maximum(cost, least) if largest else cost + least
    return float(table[-1, -1])


@FLOATS
@KINDS
@pytest.mark.parametrize(("L", "M"), [(1, 1), (1, 6), (6, 1), (13, 10), (10, 13)])
def test_native_and_reference_find_the_paths_of_a_plain_loop(
    L: int, M: int, largest: bool, dtype: torch.dtype
) -> None:
    x, y = torch.randn(2, 3, L, dtype=dtype), torch.randn(3, 3, M, dtype=dtype)
    values = [[cell_by_cell(a, b, largest=largest) for b in y] for a in x]
    expected = torch.tensor(values, dtype=torch.float64)
    limit = 1e-6 if dtype == torch.float32 else 1e-14
    out = torch.empty(2, 3, dtype=dtype)
    for found in (
        paths(x, y, largest=largest),
        ops.reference.warp_paths(x, y, out, largest=largest),
    ):
        assert relative_error(found, expected) < limit


@FLOATS
@KINDS
def test_a_pair_has_the_same_bits_alone_and_in_any_set(
    largest: bool, dtype: torch.dtype, threads: Any
) -> None:
    x, y = torch.randn(5, 12, 150, dtype=dtype), torch.randn(21, 12, 140, dtype=dtype)
    together = paths(x, y, largest=largest)
    for count in (1, 2, 3):
        threads(count)
        assert torch.equal(paths(x, y, largest=largest), together)
        for a, b in ((0, 0), (2, 17), (4, 20)):
            alone = paths(x[a : a + 1], y[b : b + 1], largest=largest)
            assert torch.equal(alone[0, 0], together[a, b])


@KINDS
def test_laws_of_a_distance(largest: bool) -> None:
    x, y = torch.randn(3, 2, 40), torch.randn(3, 2, 40)
    assert torch.equal(paths(x, x, largest=largest).diagonal(), torch.zeros(3))
    assert relative_error(paths(y, x, largest=largest).T, paths(x, y, largest=largest)) < 1e-6
    # A path may wait: repeated samples cost nothing.
    slow = x.repeat_interleave(3, dim=2)
    assert torch.equal(paths(x, slow, largest=largest).diagonal(), torch.zeros(3))
    straight = (x - y).square().sum(1)
    bound = straight.max(1).values if largest else straight.sum(1)
    assert (paths(x, y, largest=largest).diagonal() <= bound * (1 + 1e-6)).all()


@pytest.mark.one_isa
def test_the_reference_does_not_depend_on_how_much_it_takes_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y = torch.randn(2, 2, 20), torch.randn(7, 2, 20)
    together = ops.reference.warp_paths(x, y, torch.empty(2, 7))
    module = sys.modules["ecgcore.ops.warp_paths"]  # the package has the function of that name
    monkeypatch.setattr(module, "_AT_ONCE", 3 * 20 * 20)
    assert torch.equal(ops.reference.warp_paths(x, y, torch.empty(2, 7)), together)


@pytest.mark.one_isa
def test_nothing_in_gives_nothing() -> None:
    for n, m in ((0, 3), (2, 0)):
        assert paths(torch.ones(n, 1, 4), torch.ones(m, 1, 5)).shape == (n, m)


@pytest.mark.one_isa
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.ones(2, 4)}, ValueError, r"x must have shape \(n, C, L\), got \(2, 4\)"),
        ({"x": torch.ones(2, 3, 0)}, ValueError, r"x must have at least one sample, got \(2, 3, 0"),
        (
            {"x": torch.ones(2, 3, 4).half()},
            ValueError,
            "x must be float32 or float64, got float16",
        ),
        ({"y": torch.ones(5, 2, 6)}, ValueError, r"y must have shape \(m, C, M\), got \(5, 2, 6\)"),
        ({"y": torch.ones(5, 3, 6).double()}, ValueError, "y must be float32, got float64"),
        ({"out": torch.ones(2, 4)}, ValueError, r"out must have shape \(n, m\) = \(2, 5\), got"),
        ({"out": torch.ones(5, 2).T}, RuntimeError, "out must be contiguous, got strides"),
        ({"x": [1.0]}, TypeError, "x must be a tensor, got list"),
        ({"out": None}, TypeError, "out must be a tensor, got NoneType"),
        ({"x": torch.ones(2, 3, 4).requires_grad_()}, RuntimeError, "made for inference"),
    ],
)
def test_wrong_arguments_name_what_was_expected(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = {"x": torch.ones(2, 3, 4), "y": torch.ones(5, 3, 6), "out": torch.ones(2, 5)}
    with pytest.raises(error, match=message):
        ops.warp_paths(**{**given, **change})

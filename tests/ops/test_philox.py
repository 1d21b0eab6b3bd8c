# SPDX-License-Identifier: MIT
"""Counter-based noise: the reference's numbers, a draw that is read late, and errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ecgcore import ops, random
from ecgcore.ops import reference

OPS = ("philox_normal", "philox_uniform")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("op", OPS)
def test_the_references_numbers_to_one_rounding(op: str, dtype: torch.dtype) -> None:
    given: dict[str, Any] = {"seed": 2**40 + 3, "records": torch.arange(5, 69), "draw": 2**32 - 1}
    found = getattr(ops, op)(torch.empty(64, 9001, dtype=dtype), **given)
    expected = getattr(reference, op)(torch.empty(64, 9001, dtype=dtype), **given)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found, expected, rtol=4 * eps, atol=eps)
    if dtype == torch.float32:  # 29 bits of the double lie behind the rounding
        assert (found != expected).sum() <= 2


@pytest.mark.parametrize("op", OPS)
def test_bits_do_not_depend_on_batch_or_threads(op: str, threads: Any) -> None:
    function = getattr(ops, op)
    records = torch.arange(7)
    threads(1)
    whole = function(torch.empty(7, 3000), seed=1, records=records, draw=2)
    for count in (2, 3):
        threads(count)
        assert torch.equal(function(torch.empty(7, 3000), seed=1, records=records, draw=2), whole)
    for i in range(7):
        one = function(torch.empty(1, 3000), seed=1, records=records[i : i + 1], draw=2)
        assert torch.equal(one[0], whole[i])
        part = function(torch.empty(1, 1025), seed=1, records=records[i : i + 1], draw=2)
        assert torch.equal(part[0], whole[i, :1025])


def test_the_draw_may_be_a_tensor() -> None:
    out, draw = torch.empty(2, 3, 5), torch.tensor([0])
    for k in (4, 2**32 - 1):
        draw.fill_(k)
        assert random.normal_into(out, seed=3, records=[8, 1], draw=draw) is out
        assert torch.equal(out, random.normal((3, 5), seed=3, records=[8, 1], draw=k))
        random.uniform_into(out, seed=3, records=[8, 1], draw=draw)
        assert torch.equal(out, random.uniform((3, 5), seed=3, records=[8, 1], draw=k))


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"out": [1.0]}, TypeError, "out must be a tensor, got list"),
    ({"out": torch.zeros(2, 3, dtype=torch.int64)}, ValueError, "out must be float32 .* got int64"),
    ({"out": torch.zeros(())}, ValueError, r"out must have shape \(B, ...\), got \(\)"),
    ({"out": torch.zeros(3, 2).mT}, ValueError, "out must be contiguous, got strides"),
    ({"out": torch.zeros(3, 3)}, ValueError, r"records must have shape .*\(3,\), got \(2,\)"),
    ({"records": [0, 1]}, TypeError, "records must be a tensor, got list"),
    ({"records": torch.zeros(2)}, ValueError, "records must be int64, got float32"),
    ({"records": torch.tensor([0, -4])}, RuntimeError, "records must not be negative, got -4"),
    ({"seed": -1}, ValueError, r"seed must be in \[0, 2\^64\), got -1"),
    ({"seed": 1.0}, TypeError, "seed must be an int, got float"),
    ({"draw": 2**32}, ValueError, r"draw must be in \[0, 2\^32\), got 4294967296"),
    ({"draw": "a"}, TypeError, "draw must be an int, got str"),
    ({"draw": torch.zeros(2, dtype=torch.int64)}, ValueError, r"draw must have shape \(1,\)"),
    ({"draw": torch.tensor([-1])}, RuntimeError, r"draw must be in \[0, 2\^32\), got -1"),
]


@pytest.mark.one_isa
@pytest.mark.parametrize(("change", "error", "match"), BAD)
def test_bad_arguments_are_named(
    change: dict[str, Any], error: type[Exception], match: str
) -> None:
    given = {"out": torch.empty(2, 3), "seed": 0, "records": torch.arange(2), "draw": 0}
    with pytest.raises(error, match=f"ecgcore::philox_normal: {match}"):
        ops.philox_normal(**{**given, **change})


@pytest.mark.one_isa
def test_gradients_are_refused_and_the_version_is_raised() -> None:
    given: dict[str, Any] = {"seed": 0, "records": torch.arange(2), "draw": 0}
    with pytest.raises(RuntimeError, match="philox_uniform: made for inference"):
        ops.philox_uniform(torch.empty(2, 3, requires_grad=True), **given)
    out = torch.empty(2, 3)
    version = out._version
    ops.philox_uniform(out, **given)
    assert out._version > version

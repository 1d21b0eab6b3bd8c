"""After its first step an evaluation asks for no memory any more."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ecgcore import engine
from ecgcore.engine import plan
from engine_checks import DSAT_OPTIONS, SSSD_OPTIONS, dsat, inputs, prepared, sssd
from engine_checks import with_layers_without_s4 as by_hand


def allocations(run: Any) -> list[int]:
    """Sizes of what torch's allocator hands out meanwhile, in bytes."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        run()
    events = profile.profiler.kineto_results.events()
    return [e.nbytes() for e in events if e.name() == "[memory]" and e.nbytes() > 0]


def test_the_count_sees_an_allocation():
    x = torch.ones(100)
    assert allocations(lambda: x + x) == [400]
    assert allocations(lambda: x.add_(x)) == []


MODELS = [(sssd, SSSD_OPTIONS[name]) for name in ("plain", "causal, no layer norm, state of 2")]
MODELS += [(dsat, {"spade": options}) for options in DSAT_OPTIONS.values()]


@pytest.mark.parametrize("precision", engine.PRECISIONS)
@pytest.mark.parametrize(("make", "options"), MODELS)
def test_steps_after_the_first_allocate_nothing(make, options, precision):
    _check(make(**options), precision)


@pytest.mark.parametrize("make", [sssd, dsat])
def test_a_step_takes_the_same_memory_in_any_batch(make, monkeypatch):
    monkeypatch.setattr(plan, "records_at_once", lambda length: 2)
    model = make()

    def taken(batch: int) -> list[int]:
        x, y = inputs(model, batch, 200)
        evaluate = prepared(model, x, y, [3.0])
        return allocations(lambda: evaluate(torch.tensor([0]), x))

    assert len(taken(2)) > 3
    assert taken(2) == taken(20)


def test_nor_in_layers_that_only_a_hand_makes():
    _check(by_hand(dsat()), "fp32")


def _check(model: Any, precision: str) -> None:
    x, y = inputs(model, 2, 37)
    evaluate = prepared(model, x, y, [3.0, 2.0, 1.0], precision=precision)
    steps = [torch.tensor([i]) for i in range(3)]
    first = evaluate(steps[0], x)
    seen: list[Tensor] = [first]
    assert allocations(lambda: seen.extend(evaluate(i, x) for i in steps[1:])) == []
    assert {eps.data_ptr() for eps in seen} == {first.data_ptr()}

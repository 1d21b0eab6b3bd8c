"""The reverse process on buffers in place: started again, it does the same on the same memory."""

from __future__ import annotations

import pytest
import torch

from ecgcore import diffusion, engine
from ecgcore.diffusion import RecordNoise, solvers
from ecgcore.diffusion.process import Process
from toy_denoiser import LABELS, MASK, SCHEDULE, SHAPE, T, model

TABLES = {
    "ddpm": solvers.ddpm(SCHEDULE),
    "ddim": solvers.ddim(SCHEDULE, 4, 0.5),
    "dpm++": solvers.dpmpp(SCHEDULE, 4),
}
HERE = {"device": torch.device("cpu"), "dtype": torch.float32}


def process(table: solvers.Table, *, guidance: float = 1.0, **options: object) -> Process:
    labels, shape = LABELS, SHAPE
    if guidance != 1.0:
        labels, shape = torch.cat([LABELS, torch.zeros_like(LABELS)]), (2 * SHAPE[0], *SHAPE[1:])
    evaluation = engine.prepare(model, labels, table.times, shape, **HERE)
    return Process(evaluation, table, SHAPE, **HERE, guidance=guidance, **options)


def run(made: Process, table: solvers.Table, x: torch.Tensor) -> torch.Tensor:
    made.begin(x)
    for k in range(len(table.times)):
        assert int(made.i) == k
        made.evaluate()
        made.update()
    return made.end()


@pytest.mark.parametrize("sampler", TABLES)
@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("kept", [False, True])
def test_it_starts_again_on_the_same_memory(sampler: str, guidance: float, kept: bool) -> None:
    table = TABLES[sampler]
    known = torch.randn(SHAPE)
    options = {"known": known, "mask": MASK} if kept else {}
    noise = RecordNoise(3, range(3))
    made = process(table, guidance=guidance, noise=noise, **options)
    buffers = {name: b for name, b in vars(made).items() if isinstance(b, torch.Tensor)}
    assert {"i", "x", "eps", "fresh"} <= buffers.keys()
    places = {name: b.data_ptr() for name, b in buffers.items()}
    x = torch.empty(SHAPE)
    noise.into(x, torch.zeros(1, dtype=torch.int64))

    first = run(made, table, x)
    run(made, table, torch.full(SHAPE, 1e3))  # leaves other data and draws behind
    assert torch.equal(run(made, table, x), first)
    for name, buffer in buffers.items():
        assert getattr(made, name) is buffer
        assert buffer.data_ptr() == places[name], name

    sampled = diffusion.sample(
        model,
        SHAPE,
        LABELS,
        SCHEDULE,
        sampler=sampler,
        noise=noise,
        guidance=guidance,
        **({} if sampler == "ddpm" else {"steps": 4}),
        **({"eta": 0.5} if sampler == "ddim" else {}),
        **options,
    )
    assert torch.equal(sampled, first)


def test_a_result_does_not_change_with_the_next_run() -> None:
    table = TABLES["dpm++"]
    made = process(table)
    first = run(made, table, torch.ones(SHAPE))
    copy = first.clone()
    run(made, table, torch.zeros(SHAPE))
    assert torch.equal(first, copy)


def test_the_caller_fills_in_what_is_not_made_by_record() -> None:
    table = TABLES["ddpm"]
    noise = torch.randn(T, *SHAPE)
    made = process(table)
    made.begin(noise[0])
    for k in range(T):
        made.evaluate()
        if k < T - 1:
            made.fresh.copy_(noise[k + 1])
        made.update()
    assert torch.equal(made.end(), diffusion.sample(model, SHAPE, LABELS, SCHEDULE, noise=noise))

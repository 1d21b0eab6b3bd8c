"""The loop that all trainers share: it can be stopped anywhere and taken up again."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from ecgcore.errors import ConfigError
from ecgcore.train.config import TrainConfig
from ecgcore.train.distributed import World
from ecgcore.train.interrupt import StopRequest
from ecgcore.train.keeper import Keeper, Progress, Step, TrainingDiverged
from ecgcore.train.seeds import derived_seed
from ecgcore.train.state import TrainState


def check_batch(config: TrainConfig, world: World) -> None:
    """Raise ConfigError if a batch cannot be shared evenly among the processes."""
    if config.batch_size % world.size:
        raise ConfigError(
            f"train.batch_size: expected a multiple of the number of processes ({world.size}), "
            f"got {config.batch_size}"
        )


def run_steps(
    update: Callable[[int], Step],
    state: TrainState,
    keeper: Keeper,
    config: TrainConfig,
    progress: Progress,
    *,
    world: World,
    callback: Callable[[Progress], None] | None = None,
) -> Progress:
    """Call ``update(k)`` for step ``k = state.step, ...`` until a limit of ``config`` is reached.

    Everything random in step ``k`` must follow from ``(config.seed, k)``; torch's own generator,
    which dropout draws from, is seeded so before each step and left as it was in the end.
    ``callback`` is called after every step, in every process.

    Raises:
        TrainingDiverged: ``update`` raised it; the message then tells what is left.
    """
    devices = [world.device] if world.device.type == "cuda" else []
    with StopRequest() as stop, torch.random.fork_rng(devices):
        while progress.fraction < 1 and not progress.interrupted:
            began = time.perf_counter()
            for group in state.optimizer.param_groups:
                group["lr"] = config.learning_rate_at(state.step, progress.fraction)
            torch.manual_seed(derived_seed(config.seed, f"dropout {world.rank}", state.step))
            try:
                made = update(state.step)
            except TrainingDiverged as error:
                raise keeper.explain(error) from None
            seconds, stopping = world.mean(time.perf_counter() - began, float(stop.signal or 0))
            state.seconds += seconds
            progress = keeper.after_step(made, interrupted=stopping > 0)
            if callback is not None:
                callback(progress)
    if state.average is not None and not progress.interrupted:
        state.average.copy_to_model()
    return progress

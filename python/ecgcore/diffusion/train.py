"""Training of the diffusion models: one step, and one loop that can be stopped anywhere and taken
up again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ecgcore.diffusion.loss import loss as diffusion_loss
from ecgcore.diffusion.schedule import NoiseSchedule
from ecgcore.errors import ConfigError
from ecgcore.nn.s4 import reserve_lengths
from ecgcore.train.config import TrainConfig
from ecgcore.train.distributed import World
from ecgcore.train.ema import EMA
from ecgcore.train.keeper import Keeper, Progress, Step, TrainingDiverged
from ecgcore.train.loop import check_batch, run_steps
from ecgcore.train.records import Records
from ecgcore.train.run import RunFolder
from ecgcore.train.seeds import generator
from ecgcore.train.state import TrainState


def draw_noise(
    x: Tensor, schedule: NoiseSchedule, random: torch.Generator, *, stratified: bool = False
) -> tuple[Tensor, Tensor]:
    """Diffusion steps ``(B,)`` int64 and noise like ``x (B, C, L)`` for one training step.

    ``stratified`` draws one step from each of B equal parts of [0, T): the same distribution for
    every record on average (records come in random order), with less variance of the batch's loss.
    """
    batch = len(x)
    if stratified:
        place = (torch.arange(batch) + torch.rand(batch, generator=random)) / batch
        steps = (place * schedule.T).long().clamp_(max=schedule.T - 1)
    else:
        steps = torch.randint(schedule.T, (batch,), generator=random)
    return steps, torch.randn(x.shape, generator=random)


def drop_labels(label: Tensor, share: float, random: torch.Generator) -> Tensor:
    """``label (B, classes)`` with each row set to zero with probability ``share``.

    A model trained so predicts the noise with and without a class: what classifier-free guidance
    combines (Ho, Salimans, "Classifier-free diffusion guidance", 2022).
    """
    kept = torch.rand(len(label), 1, generator=random) >= share
    return label * kept


def training_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: NoiseSchedule,
    x: Tensor,
    label: Tensor,
    steps: Tensor,
    noise: Tensor,
    *,
    grad_clip: float | None = None,
    mean: Callable[..., list[float]] = lambda *values: list(values),
) -> tuple[float, float]:
    """One update on ``x (B, C, L)``, ``label (B, classes)`` (no classes: none is given to the
    model).

    Returns the loss and the norm of its gradient before clipping. ``mean`` averages numbers over
    the processes of a run.

    Raises:
        TrainingDiverged: one of the two is not finite; the weights are then left as they were.
    """
    optimizer.zero_grad(set_to_none=True)
    given = label if label.shape[1] else None
    loss = diffusion_loss(model, x, given, schedule, steps=steps, noise=noise)
    loss.backward()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = nn.utils.clip_grad_norm_(parameters, math.inf if grad_clip is None else grad_clip)
    value, size = mean(loss.item(), norm.item())
    if not (math.isfinite(value) and math.isfinite(size)):
        raise TrainingDiverged(f"the loss is {value}, the norm of its gradient {size}")
    optimizer.step()
    return value, size


def fit(
    model: nn.Module,
    records: Records,
    schedule: NoiseSchedule,
    config: TrainConfig,
    *,
    run: RunFolder | None = None,
    run_config: Mapping[str, Any] | None = None,
    resume: bool = True,
    world: World | None = None,
    callback: Callable[[Progress], None] | None = None,
) -> Progress:
    """Train ``model`` in place until a limit of ``config`` is reached; with EMA it ends up with the
    averaged weights.

    Everything random in step ``k`` follows from ``(config.seed, k)``: which records, their windows,
    the diffusion steps, the noise, the labels taken away and the dropout. So a run that was stopped
    continues from its weights, the optimiser's and the averages' state and the number ``k`` alone,
    to the same weights, bit for bit, as one that was not (on one machine; CUDA operations that are
    not deterministic excepted). ``batch_size`` counts the records over all processes, and each
    process takes its part of the same draws: their number changes the result by rounding only.

    Args:
        run: folder to log to, to save in and to continue from.
        run_config: what the run's files note as its config.
        resume: continue the run in the folder, if it holds one.
        callback: called after every step, in every process.

    Raises:
        TrainingDiverged: the loss or its gradient is not finite; the last checkpoint stays as it
            is.
        ConfigError, CheckpointError: the folder holds another run, or a state that cannot be read;
            or labels are to be taken away where there are none.
    """
    world = world or World()
    check_batch(config, world)
    if config.label_dropout and not records.y.shape[1]:
        raise ConfigError(
            f"train.label_dropout is {config.label_dropout}, but the model has no classes"
        )
    model.to(world.device).train()
    reserve_lengths(model, records.length)  # not in the first step, behind the back of the averages
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=config.learning_rate, fused=True)
    average = None if config.ema is None else EMA(model, config.ema)
    state = TrainState(model, optimizer, average)
    keeper = Keeper(
        run, state, config, run_config=run_config or {}, records=len(records), world=world
    )
    progress = keeper.open(resume=resume and config.ckpt_iter == "max")
    network = world.wrap(model)

    def update(step: int) -> Step:
        x, label = records.batch(step, config.batch_size, config.seed)
        random = generator(config.seed, "noise", step)
        steps, noise = draw_noise(x, schedule, random, stratified=config.stratified_steps)
        if config.label_dropout:
            label = drop_labels(
                label, config.label_dropout, generator(config.seed, "label dropout", step)
            )
        made = training_step(
            network, optimizer, schedule, *world.share(x, label, steps, noise),
            grad_clip=config.grad_clip, mean=world.mean,
        )  # fmt: skip
        if average is not None:
            average.update()
        return Step(*made)

    return run_steps(update, state, keeper, config, progress, world=world, callback=callback)

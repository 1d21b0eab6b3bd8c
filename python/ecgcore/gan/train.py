"""Training of the GANs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ecgcore.errors import ConfigError
from ecgcore.gan.config import GANTrainConfig
from ecgcore.gan.steps import (
    CriticDraws,
    GeneratorDraws,
    critic_step,
    draw_for_critic,
    draw_for_generator,
    generator_step,
    generator_turn,
)
from ecgcore.models.gan import Generator
from ecgcore.train.distributed import World
from ecgcore.train.ema import EMA
from ecgcore.train.keeper import Keeper, Progress, Step
from ecgcore.train.loop import check_batch, run_steps
from ecgcore.train.records import Records
from ecgcore.train.run import RunFolder
from ecgcore.train.seeds import generator
from ecgcore.train.state import TrainState


def fit(
    model: Generator,
    records: Records,
    config: GANTrainConfig,
    *,
    run: RunFolder | None = None,
    run_config: Mapping[str, Any] | None = None,
    resume: bool = True,
    world: World | None = None,
    callback: Callable[[Progress], None] | None = None,
) -> Progress:
    """Train ``model`` and its critic in place until a limit of ``config`` is reached.

    A step is one of the critic; after those that :func:`~.steps.generator_turn` names, the
    generator makes one, on the same labels. The loss of a step is the critic's. The log also has
    the critic's estimate of the Wasserstein distance, the gradient penalty and, after a step of the
    generator, its loss. With EMA the generator's weights are averaged over its steps.

    Arguments, reproducibility and errors are those of :func:`ecgcore.diffusion.train.fit`, with one
    difference: with several processes, each normalises its part of a batch by itself, so that their
    number changes the result.
    """
    world = world or World()
    check_batch(config, world)
    critic = model.discriminator
    if critic is None:
        raise ConfigError(
            f"{type(model).__name__} has no critic to be trained against; "
            "its config needs a section 'discriminator'"
        )
    if records.length != critic.length:
        raise ConfigError(
            f"dataset.segment_length is {records.length} samples, discriminator.length "
            f"{critic.length}"
        )
    batches = config.batches_per_epoch(len(records))
    model.to(world.device).train()
    own, theirs = model.networks()
    # One optimiser for both: Adam passes over parameters without a gradient.
    optimizer = torch.optim.Adam(
        [{"params": list(theirs.values())}, {"params": list(own.values())}],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        fused=True,
    )
    average = None if config.ema is None else EMA(model, config.ema, own)
    state = TrainState(model, optimizer, average)
    keeper = Keeper(
        run, state, config, run_config=run_config or {}, records=len(records), world=world
    )
    progress = keeper.open(resume=resume and config.ckpt_iter == "max")
    latents = (config.batch_size, *model.latent_shape(records.length))

    def update(step: int) -> Step:
        random = generator(config.seed, "noise", step)
        x, label = world.share(*records.batch(step, config.batch_size, config.seed))
        draws = CriticDraws(*_part(world, *draw_for_critic(critic, latents, random)))
        scores = critic_step(
            model, critic, optimizer, x, label, draws,
            weight=config.lmbda, grad_clip=config.grad_clip, world=world,
        )  # fmt: skip
        figures = {"wasserstein": scores.wasserstein, "penalty": scores.penalty}
        if generator_turn(step, config.n_critic, batches):
            g_draws = GeneratorDraws(*_part(world, *draw_for_generator(critic, latents, random)))
            figures["generator_loss"], _ = generator_step(
                model, critic, optimizer, label, g_draws, grad_clip=config.grad_clip, world=world
            )
            if average is not None:
                average.update()
        return Step(scores.loss, scores.gradient_norm, figures)

    return run_steps(update, state, keeper, config, progress, world=world, callback=callback)


def _part(world: World, *draws: Tensor) -> list[Tensor]:
    """This process's part of draws; the batch is the last axis of shifts, the first of others."""
    first = [draw if draw.is_floating_point() else draw.movedim(-1, 0) for draw in draws]
    shared = world.share(*first)
    return [s if s.is_floating_point() else s.movedim(0, -1) for s in shared]

"""When a run logs, saves and ends: common to all trainers."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from ecgcore.errors import EcgcoreError
from ecgcore.train.config import TrainConfig
from ecgcore.train.distributed import World
from ecgcore.train.run import RunFolder
from ecgcore.train.state import TrainState


class TrainingDiverged(EcgcoreError):
    """The loss or its gradient is no longer a finite number."""


@dataclass(frozen=True)
class Step:
    """What one step of a trainer saw.

    Attributes:
        loss: of the step; the log has the mean since its last line.
        gradient_norm: of the gradient, before clipping.
        figures: further numbers for the log, by name.
    """

    loss: float
    gradient_norm: float
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """Where a run stands after ``step`` steps.

    ``fraction`` (0..1) of it is done; ``loss`` is the last step's; ``seconds`` is training time,
    added up over interruptions.
    """

    step: int
    epoch: float
    fraction: float
    loss: float
    seconds: float
    interrupted: bool = False


class Keeper:
    """Keeps a run's books: progress, log lines, checkpoints. Only the first process writes."""

    # Checkpoints that fall due by epochs are put off while writing would take more than this part
    # of the time: an epoch of a few records ends sooner than a large model is written.
    WRITING_SHARE = 0.05

    def __init__(
        self,
        run: RunFolder | None,
        state: TrainState,
        config: TrainConfig,
        *,
        run_config: Mapping[str, Any],
        records: int,
        world: World,
    ) -> None:
        self._run, self._state, self._config, self._world = run, state, config, world
        self._run_config, self._records = run_config, records
        self._total = config.steps(records)
        self._writing_seconds = 0.0
        self._saved: Progress | None = None
        self._saved_at = time.monotonic()

    def open(self, *, resume: bool) -> Progress:
        """Load the state found in the run's folder, if any, and begin or continue its files."""
        if self._run is None:
            return self.progress()
        saved = self._run.saved_state(self._run_config) if resume else None
        if saved is not None:
            self._state.load_state_dict(saved)
            self._saved = self.progress()
        self._world.barrier()  # everyone has read before anything is written
        if self._world.first:
            self._run.begin(self._run_config, self._state.step)
        return self.progress()

    def progress(self, *, interrupted: bool = False) -> Progress:
        state, config = self._state, self._config
        by_steps = 0.0 if self._total is None else state.step / self._total
        by_time = 0.0 if config.max_minutes is None else state.seconds / (60 * config.max_minutes)
        return Progress(
            step=state.step,
            epoch=state.step * config.batch_size / self._records,
            fraction=min(1.0, max(by_steps, by_time)),
            loss=state.losses[-1] if state.losses else math.nan,
            seconds=state.seconds,
            interrupted=interrupted,
        )

    def after_step(self, made: Step, *, interrupted: bool) -> Progress:
        """Count the step just made; log and save what is due."""
        self._state.step += 1
        self._state.losses.append(made.loss)
        progress = self.progress(interrupted=interrupted)
        finished = progress.fraction >= 1
        if progress.step % self._config.log_interval == 0 or finished:
            if self._run is not None and self._world.first:
                self._log(self._run, progress, made)
            self._state.losses.clear()
        if finished or interrupted or self._checkpoint_due(progress):
            self._save(progress)
        return progress

    def explain(self, error: TrainingDiverged) -> TrainingDiverged:
        """``error`` with the step it happened at and what is left."""
        kept = ""
        if self._saved is not None:
            kept = f"; the last good checkpoint is that of step {self._saved.step}"
        return TrainingDiverged(
            f"training diverged at step {self._state.step + 1}: {error}{kept}; "
            "a lower learning_rate, a warmup or grad_clip may help"
        )

    def _checkpoint_due(self, progress: Progress) -> bool:
        elapsed = time.monotonic() - self._saved_at
        epochs = progress.epoch - (self._saved.epoch if self._saved is not None else 0.0)
        affordable = elapsed * self.WRITING_SHARE >= self._writing_seconds
        by_epochs = epochs >= self._config.ckpt_interval and affordable
        return by_epochs or elapsed >= 60 * self._config.ckpt_minutes

    def _log(self, run: RunFolder, progress: Progress, made: Step) -> None:
        losses = self._state.losses
        run.log(
            step=progress.step,
            epoch=round(progress.epoch, 4),
            loss=sum(losses) / len(losses),
            learning_rate=self._state.optimizer.param_groups[0]["lr"],
            gradient_norm=made.gradient_norm,
            seconds=round(progress.seconds, 3),
            **made.figures,
        )

    def _save(self, progress: Progress) -> None:
        if self._run is not None and self._world.first:
            began = time.monotonic()
            self._run.save(self._state.state_dict(), self._run_config)
            average = self._state.average
            with nullcontext() if average is None else average.applied():
                self._run.save_weights(self._state.model)
            self._writing_seconds = time.monotonic() - began
        self._saved, self._saved_at = progress, time.monotonic()

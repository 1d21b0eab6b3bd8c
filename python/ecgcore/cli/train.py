"""Train a diffusion model or a GAN from a JSON config, or go on with a run that was stopped.

The run folder (--out) gets config.json, log.jsonl, checkpoint.safetensors (what `ecgcore sample`
reads) and train_state.pt. Ctrl-C ends the run after the step in progress and saves it; the same
command then continues, to the same weights as a run that was never stopped. Works unchanged under
torchrun.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from ecgcore.cli.common import INTERRUPTED, add_device, positive, resolve_device, whole_number
from ecgcore.train import Progress, connect
from ecgcore.train.launch import Plan, train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="JSON config, e.g. configs/demo.json")
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="PTB-XL folder, or folder with train_data.npy (default: the config's data_directory, "
        "else simulated ECGs)",
    )
    parser.add_argument(
        "--out", metavar="RUN", help="run folder (default: runs/<name of the config>)"
    )
    parser.add_argument(
        "--init",
        metavar="CHECKPOINT",
        help="start from these weights: a run folder, .safetensors or a reference checkpoint",
    )
    settings = parser.add_argument_group("instead of the config's settings")
    settings.add_argument("--epochs", type=whole_number(1), metavar="N")
    settings.add_argument("--max-steps", type=whole_number(1), metavar="N")
    settings.add_argument("--max-minutes", type=positive, metavar="M")
    settings.add_argument("--batch-size", type=whole_number(1), metavar="N")
    settings.add_argument("--learning-rate", type=positive, metavar="LR")
    settings.add_argument("--seed", type=whole_number(0), metavar="N")
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="continue the run in --out if it holds one (default), or start it anew",
    )
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    plan = Plan.read(arguments.config).replace(
        max_steps=arguments.max_steps,
        max_minutes=arguments.max_minutes,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
        init=arguments.init,
    )
    if arguments.epochs is not None:
        plan = replace(plan, train=plan.train.with_epochs(arguments.epochs))
    out = Path(arguments.out or Path("runs") / Path(arguments.config).stem)
    with connect(resolve_device(arguments.device)) as world, TrainingBar(show=world.first) as bar:
        _, progress = train(
            plan,
            out,
            data=arguments.data,
            resume=arguments.resume,
            world=world,
            callback=bar.step,
            reading=bar.reading,
        )
        first = world.first
    if progress.interrupted:
        if first:
            print(
                f"stopped and saved after step {progress.step}; the same command continues",
                file=sys.stderr,
            )
        return INTERRUPTED
    if first:
        print(f"{out}: step {progress.step}, {progress.seconds:.0f} s of training")
    return 0


class TrainingBar:
    """Progress bars of a run: first over the records read, then over the part of the run done.

    A run can end by steps, epochs or time, so the bar counts its fraction; tqdm derives the time
    left from it.
    """

    _PARTS = 1000

    def __init__(self, *, show: bool = True) -> None:
        self._hide = not show
        self._bar: tqdm | None = None
        self._loss: float | None = None

    def __enter__(self) -> TrainingBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def reading(self, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = tqdm(
                total=total, desc="reading", unit="record", disable=self._hide, leave=False
            )
        self._bar.update(done - self._bar.n)
        if done == total:
            self._close()

    def step(self, progress: Progress) -> None:
        if self._bar is None:
            self._bar = tqdm(
                total=self._PARTS,
                initial=progress.fraction * self._PARTS,
                desc="training",
                disable=self._hide,
                bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
            )
        smooth = progress.loss if self._loss is None else self._loss
        self._loss = 0.98 * smooth + 0.02 * progress.loss
        self._bar.set_postfix_str(f"step {progress.step}, loss {self._loss:.4f}", refresh=False)
        self._bar.update(progress.fraction * self._PARTS - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

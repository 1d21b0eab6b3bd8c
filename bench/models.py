"""Times the four generators: ``python bench/models.py [--task step] [--quick] [--json PATH]``.

The GANs against plain torch modules, drawing (``sampling``) and training (``critic``); a step of
the diffusion models' sampling against plain torch and against its bare matrix products (``step``,
see ``sampling``). All sides hold the same weights and take the same draws; their numbers are
compared before anything is timed. They run interleaved in one process; the tables give medians. See
README.md beside this file.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import gan_anchors
import sampling as steps
from ecgcore import gan, models
from ecgcore.testing.compare import relative_error
from measure import interleaved
from ops import environment

CEILING = 1e-4
"""Variants further apart than this compute different things: they are not timed."""
ANCHORS = {"CondWaveGANGenerator": gan_anchors.WaveGAN, "CondP2PGenerator": gan_anchors.Pulse2Pulse}


@dataclass
class Task:
    """One thing done in two ways; each returns numbers that must agree."""

    model: str
    task: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any]


@dataclass
class Timed:
    model: str
    task: str
    ms: float
    torch_ms: float
    ratio: float
    difference: float


def tasks(quick: bool, device: str) -> Iterable[Task]:
    batch, critic_batch = (4, 4) if quick else (64, 32)
    for name, anchor in ANCHORS.items():
        torch.manual_seed(0)
        channels = {"num_channels" if "Wave" in name else "n_channels": 8}
        size = {"model_size": 10 if quick else 50, **channels}
        sections: dict[str, Any] = {"model": size, "generator": {"label_embed_classes": 5}}
        model = models.from_config({"model_name": name, **sections, "discriminator": {}})
        assert isinstance(model, models.Generator)
        model.to(device)
        yield sampling(model, anchor, batch, device)
        yield training(model, anchor, critic_batch, device)


def inputs(model: models.Generator, batch: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    noise = gan.latent((batch, *model.latent_shape(1000))).to(device)
    return noise, torch.eye(5, device=device)[torch.arange(batch) % 5]


def sampling(model: models.Generator, anchor: Any, batch: int, device: str) -> Task:
    ours, theirs = copy.deepcopy(model).eval(), anchor(copy.deepcopy(model)).to(device).eval()
    given = inputs(model, batch, device)

    @torch.no_grad()
    def draw(generator: torch.nn.Module) -> torch.Tensor:
        x: torch.Tensor = generator(*given)
        return x

    name = type(model).__name__
    return Task(name, f"sampling, B={batch}", lambda: draw(ours), lambda: draw(theirs))


def training(model: models.Generator, anchor: Any, batch: int, device: str) -> Task:
    """A step of the critic. Both sides begin with the same weights and make the same steps."""
    ours, theirs = copy.deepcopy(model).train(), copy.deepcopy(model).train()
    assert ours.discriminator is not None
    assert theirs.discriminator is not None
    plain, critic = anchor(theirs).to(device).train(), gan_anchors.Critic(theirs.discriminator)
    settings: dict[str, Any] = {"lr": 1e-4, "betas": (0.5, 0.9), "fused": True}
    adam = torch.optim.Adam(ours.discriminator.parameters(), **settings)
    plain_adam = torch.optim.Adam(critic.parameters(), **settings)
    noise, label = inputs(model, batch, device)
    real = 0.3 * torch.randn(batch, 8, 1000).to(device)
    draws = gan.draw_for_critic(ours.discriminator, noise.shape)

    def step() -> torch.Tensor:
        return torch.tensor(gan.critic_step(ours, ours.discriminator, adam, real, label, draws)[:3])

    def plain_step() -> torch.Tensor:
        alpha = draws.alpha.to(device)
        return torch.tensor(
            gan_anchors.critic_step(
                plain, critic, plain_adam, real, label, draws.noise.to(device), alpha, draws.shifts
            )
        )

    return Task(type(model).__name__, f"critic step, B={batch}", step, plain_step)


def run(task: Task, rounds: int, device: str) -> Timed:
    difference = relative_error(task.ours(), task.theirs())
    if not difference < CEILING:
        raise RuntimeError(f"{task.model}, {task.task}: the variants differ by {difference:.1e}")
    seconds = interleaved({"ecgcore": task.ours, "torch": task.theirs}, rounds, device)
    ours, theirs = 1e3 * seconds["ecgcore"], 1e3 * seconds["torch"]
    return Timed(task.model, task.task, ours, theirs, theirs / ours, difference)


def gan_tasks(only: str | None, quick: bool, rounds: int, device: str) -> list[dict[str, Any]]:
    print("| model | task | ecgcore ms | plain torch ms | ratio | difference |\n|-|-|-:|-:|-:|-:|")
    timed = []
    for task in tasks(quick, device):
        if only is not None and not task.task.startswith(only):
            continue
        t = run(task, rounds, device)
        timed.append(asdict(t))
        print(
            f"| {t.model} | {t.task} | {t.ms:.3g} | {t.torch_ms:.3g} | {t.ratio:.2f} | "
            f"{t.difference:.0e} |",
            flush=True,
        )
    return timed


def denoising(quick: bool, rounds: int, device: str) -> list[dict[str, Any]]:
    """A step of SSSD-ECG, cut to 4 of its 36 blocks, and of DSAT-ECG, at batch 8 alone."""
    bf16 = device != "cpu" or torch.cpu._is_avx512_bf16_supported()
    kinds: dict[str, Any] = {"recompute": not quick, "bf16": bf16}
    sssd = {"sssd": steps.built("sssd", 1 if quick else 4, device)}
    timed = steps.table(sssd, [1] if quick else [1, 8], rounds, device, keops=not quick, **kinds)
    dsat = {"dsat": steps.built("dsat", 1 if quick else None, device)}
    timed += steps.table(dsat, [1 if quick else 8], rounds, device, keops=False, **kinds)
    return [asdict(t) for t in timed]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all")
    parser.add_argument("--task", choices=("sampling", "critic", "step"), help="only this task")
    parser.add_argument("--rounds", type=int, help="timed rounds of every task")
    parser.add_argument("--json", metavar="PATH", help="write figures and surroundings to PATH")
    arguments = parser.parse_args(argv)
    stamp = environment(arguments.device)
    print(", ".join(f"{k} {v}" for k, v in stamp.items()), file=sys.stderr)
    report: dict[str, Any] = {"environment": stamp}
    quick, device = arguments.quick, arguments.device
    if arguments.task != "step":
        rounds = arguments.rounds or (2 if quick else 7)
        report["tasks"] = gan_tasks(arguments.task, quick, rounds, device)
    if arguments.task in (None, "step"):
        report["rows"] = denoising(quick, arguments.rounds or (1 if quick else 3), device)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

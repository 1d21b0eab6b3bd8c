"""From the arguments of ``model.sample`` to a function of record numbers."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ecgcore import diffusion, random
from ecgcore.data.classes import parse_labels
from ecgcore.models.card import ModelCard
from ecgcore.models.gan import Generator
from ecgcore.sampling.channels import leads_of, to_leads
from ecgcore.sampling.known import Known
from ecgcore.sampling.options import Options, class_moments_of, integer, positive

Step = Callable[[], Any]
"""Called after every evaluation of the model."""


@dataclass(frozen=True, eq=False)
class Plan:
    """All that a call of ``model.sample`` has decided, before anything is drawn.

    Attributes:
        labels: ``(k, classes)``; record ``i`` takes row ``i % k``.
        count: number of records.
        length: samples of a record.
        fs: their rate in Hz.
        seed: None where the latents were given.
        latents: those of a GAN, if they were given.
        known: what is kept.
    """

    model: nn.Module
    card: ModelCard
    options: Options
    labels: Tensor
    count: int
    length: int
    fs: float
    seed: int | None
    latents: Tensor | None = None
    known: Known | None = None

    @property
    def leads(self) -> tuple[str, ...]:
        return leads_of(self.card.lead_names)

    @property
    def schedule(self) -> diffusion.NoiseSchedule:
        values = self.card.diffusion
        assert values is not None
        return diffusion.NoiseSchedule.linear(int(values["T"]), values["beta_0"], values["beta_T"])

    @property
    def evaluations(self) -> int:
        """Evaluations of the model per record."""
        if isinstance(self.model, Generator):
            return 1
        return self.options.steps or self.schedule.T

    def rows(self, records: range) -> Tensor:
        """The labels of some records, ``(records, classes)``."""
        return self.labels[torch.arange(records.start, records.stop) % len(self.labels)]

    def noise(self, records: range) -> Tensor:
        """The latents of a GAN's records, on the CPU."""
        if self.latents is not None:
            return self.latents[records.start : records.stop]
        assert self.seed is not None
        model: Any = self.model
        return random.uniform(
            model.latent_shape(self.length), seed=self.seed, records=records, draw=0
        )

    def draw(self, records: range, step: Step | None = None) -> Tensor:
        """The records ``(records, leads, L)``, float32 in mV, on the CPU. The model is in
        ``eval()``.
        """
        labels = self.rows(records) if self.card.class_names else None
        make = self._by_generator if isinstance(self.model, Generator) else self._by_diffusion
        x = make(records, labels, step).detach().float().cpu() / self.card.scale
        x = to_leads(x, self.card.lead_names)
        if self.known is None:
            return x
        given, mask = self.known.in_leads(records)
        return torch.where(mask, given, x)

    def _by_generator(self, records: range, labels: Tensor | None, step: Step | None) -> Tensor:
        device = _device(self.model)
        given = () if labels is None else (labels.to(device),)
        x: Tensor = self.model(self.noise(records).to(device), *given)
        if step is not None:
            step()
        return x

    def _by_diffusion(self, records: range, labels: Tensor | None, step: Step | None) -> Tensor:
        assert self.seed is not None
        options = self.options
        known = mask = None
        if self.known is not None:
            known, mask = self.known.in_channels(records)
            known = known * self.card.scale
        return diffusion.sample(
            self.model,
            (len(records), len(self.card.lead_names), self.length),
            labels,
            self.schedule,
            sampler=options.sampler,
            steps=options.steps,
            eta=options.eta,
            noise=diffusion.RecordNoise(self.seed, records),
            start=self._start(records, labels),
            callback=None if step is None else lambda i, t, x, eps: step(),
            guidance=options.guidance,
            known=known,
            mask=mask,
            precision=options.precision,
            rate=options.rate,
            eager=options.eager,
        )

    def _start(self, records: range, labels: Tensor | None) -> diffusion.Moments | None:
        start = self.options.start
        if start == "normal":
            return None
        if start == "matched":
            start = class_moments_of(self.card)
        if isinstance(start, diffusion.ClassMoments):
            return start.of(labels)
        assert isinstance(start, diffusion.Moments)
        part = [
            value[records.start : records.stop] if _one_each(value, self.count) else value
            for value in (start.mean, start.std)
        ]
        return diffusion.Moments(*part)


def plan(
    model: nn.Module,
    labels: object,
    n: int | None,
    seed: int | None,
    options: Options,
    noise: Any = None,
) -> Plan:
    """Check the arguments of ``model.sample`` against each other and against the model."""
    card = getattr(model, "card", None)
    name = type(model).__name__
    if not isinstance(card, ModelCard):
        raise ValueError(
            f"sample: {name} has no card that names its classes and leads; "
            "load it by ecgcore.load, or set model.card to a models.card.ModelCard"
        )
    known = None
    if isinstance(model, Generator):
        options.check_gan(name)
        if noise is not None:
            noise = torch.as_tensor(noise)
            n = noise.shape[0] if n is None and noise.dim() else n
    else:
        if card.diffusion is None:
            raise ValueError(f"sample: {name} has no noise schedule in its card")
        if noise is not None:
            raise ValueError(
                "sample: noise is the latent of a GAN; for a diffusion model give a seed, or call "
                "diffusion.sample with the draws"
            )
        options.check_diffusion(name, card)
        if options.known is not None or options.mask is not None:
            known = Known.read(options.known, options.mask, card.lead_names)
            # One record may be kept in several classes.
            if n is None and (known.records != 1 or labels is None):
                n = known.records
    rows = _label_rows(labels, card)
    count = len(rows) if n is None else positive("n", n)
    if seed is not None and not 0 <= (seed := integer("seed", seed)) <= random.MAX_SEED:
        raise ValueError(f"sample: seed must be in [0, 2^64), got {seed}")
    if seed is None and noise is None:
        seed = secrets.randbits(48)
    length = None if options.length is None else positive("length", options.length)
    if isinstance(model, Generator):
        if noise is not None:
            noise, length = _latents(model, noise, seed, count, length)
        else:
            length = card.length if length is None else length
            model.latent_shape(length)  # raises for lengths that it cannot draw
        return Plan(model, card, options, rows, count, length, card.fs, seed, noise)

    if known is not None:
        known.check(count)
        if length not in (None, known.length):
            raise ValueError(f"sample: length is {length}, but known has {known.length} samples")
        length = known.length
    elif length is None:
        length = max(1, round(card.length / options.rate))
    options = dataclasses.replace(options, steps=_steps(options.steps))
    if isinstance(options.start, diffusion.Moments | diffusion.ClassMoments):
        _check_moments(options.start, card, (count, len(card.lead_names), length))
    return Plan(
        model, card, options, rows, count, length, card.fs / options.rate, seed, known=known
    )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """``model`` in ``eval()`` and without gradients; its mode is restored."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def _label_rows(labels: object, card: ModelCard) -> Tensor:
    if card.class_names:
        return torch.from_numpy(parse_labels(labels, card.class_names, function="sample"))
    if labels is not None:
        raise ValueError("sample: labels must be None, this model has no classes")
    return torch.zeros(1, 0)


def _latents(
    model: Generator, noise: Tensor, seed: int | None, count: int, length: int | None
) -> tuple[Tensor, int]:
    """Given latents ``(count, ...)`` on the CPU, and the samples of a signal."""
    if seed is not None:
        raise ValueError("sample: give a seed or noise, not both")
    if not noise.is_floating_point():
        raise TypeError(f"sample: noise must be floating, got {noise.dtype}")
    samples = model.signal_length(noise.shape[1:])
    if noise.shape[0] != count:
        raise ValueError(f"sample: noise must hold n = {count} latents, got {noise.shape[0]}")
    if length is not None and length != samples:
        raise ValueError(
            f"sample: length is {length}, but latents of shape {tuple(noise.shape[1:])} give "
            f"{samples} samples"
        )
    return noise.detach().cpu().float(), samples


def _check_moments(
    start: diffusion.Moments | diffusion.ClassMoments, card: ModelCard, shape: tuple[int, int, int]
) -> None:
    if isinstance(start, diffusion.ClassMoments):
        wanted = (len(card.class_names) + 1, len(card.lead_names))
        if tuple(start.mean.shape) != wanted or tuple(start.std.shape) != wanted:
            raise ValueError(
                f"sample: start must have moments of {wanted[0]} rows (classes, all) and "
                f"{wanted[1]} channels, got {tuple(start.mean.shape)} and {tuple(start.std.shape)}"
            )
        return
    for name in ("mean", "std"):
        value = getattr(start, name)
        fits = value.dim() <= 3 and all(
            have in (1, want) for have, want in zip(value.shape[::-1], shape[::-1], strict=False)
        )
        if not fits:
            raise ValueError(
                f"sample: start.{name} must broadcast to (n, channels, L) = {shape}, got "
                f"{tuple(value.shape)}"
            )


def _one_each(value: Tensor, count: int) -> bool:
    return value.dim() == 3 and len(value) == count


def _steps(steps: Any) -> int | None:
    return None if steps is None else positive("steps", steps)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device

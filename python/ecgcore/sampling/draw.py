"""``model.sample``: records in memory."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ecgcore.models.gan import Generator
from ecgcore.sampling.batch import ECGBatch
from ecgcore.sampling.options import Options, Start, positive
from ecgcore.sampling.plan import evaluating, plan

BATCH_SIZE = 16
"""Records drawn together unless said otherwise."""


def sample(
    model: nn.Module,
    labels: object = None,
    n: int | None = None,
    steps: int | None = None,
    sampler: str = "ddpm",
    seed: int | None = None,
    length: int | None = None,
    progress: bool = False,
    *,
    noise: Tensor | None = None,
    precision: str = "fp32",
    start: Start = "normal",
    eta: float = 0.0,
    guidance: float = 1.0,
    rate: float = 1.0,
    known: Any = None,
    mask: Any = None,
    eager: bool = False,
    batch_size: int | None = None,
) -> ECGBatch:
    """Draw ECGs. A loaded model has this as its ``sample`` method.

    Record ``i`` depends on ``(seed, i)`` alone: its noise, or its latent, is the same numbers
    whatever the batch size, the number of records or the device. ``sampling.runs.sample_to`` draws
    more records than memory holds, into files.

    Args:
        model: a diffusion model or a GAN's generator with a ``card``, as ``ecgcore.load`` returns
            it. A GAN takes ``labels``, ``n``, ``seed``, ``length``, ``noise`` and ``batch_size``,
            and no other option.
        labels: None (one-hot, cycling through the classes), a class name (``"MI"``, ``"MI+CD"`` for
            both) or a list of them, class indices ``(k,)`` int64, or a floating ``(k, classes)``
            array used as it is.
        n: number of records in all, by default one per record of ``known``, else one per label;
            record ``i`` takes label ``i % k``.
        steps: number of model evaluations per record; None is what the sampler is meant to take,
            all steps of the schedule for ``"ddpm"``.
        sampler: ``"ddpm"``, the reference's procedure; ``"ddim"`` or ``"dpm++"``, for few steps.
        seed: 0 to 2^64 - 1; None draws one, which the result's ``seed`` tells.
        length: samples per record, by default those of ``known``, else the length in training
            divided by ``rate``. A GAN takes multiples of its own number (125 for WaveGAN*, 500 for
            Pulse2Pulse, 2500 for deepfake-ecg).
        progress: show a bar.
        noise: a GAN's latents, ``(n, ...)``, as ``ECGBatch.noise`` has them, instead of a seed; a
            diffusion model takes none here.
        precision: of the matrix products, ``"fp32"`` or ``"bf16"``.
        start: of the reverse process: ``"normal"``, N(0, 1) as in the reference; ``"matched"``,
            the mean and variance that noised data of the record's class have at the last step, by
            the moments in the checkpoint; or such moments in model units,
            ``diffusion.ClassMoments``, or ``diffusion.Moments`` that broadcast to ``(n, channels,
            L)``.
        eta: of ``"ddim"``, 0 to 1: part of the noise of ``"ddpm"`` that is added in each step.
        guidance: weight of the label; other than 1 it needs a model trained with label dropout and
            costs twice the time. Above 1 records are more typical of their class, and less varied.
        rate: step of the samples in units of the one in training: 0.2 draws 500 Hz with a model of
            100 Hz, through the continuous time of the S4 layers. Convolutions, attention and the
            noise work on samples and know nothing of it, and records get worse with it:
            docs/sampling.md has figures.
        known: ECGs to keep parts of, in mV and in the order of the result's leads, ``(n, 12, L)``,
            or ``(12, L)`` for all records. What is not kept may hold anything.
        mask: bool, true where ``known`` is kept and false where the model draws; of the shape of
            ``known``, or 1 along axes on which it is the same. ``sampling.keep`` makes one from
            words. In a model of eight channels any two limb leads tell all six; a single one is
            kept if it is itself a channel.
        eager: on a GPU, launch the kernels of each step one by one instead of replaying a CUDA
            graph.
        batch_size: records drawn together, by default 16.

    Returns:
        The records in mV. Eight channels that carry an ECG are completed to twelve leads, twelve
        are put in the order of ``data.LEADS``, others are given as they are.

    Raises:
        DataError: an unknown label.
        ValueError: numbers out of range, or options that do not fit the model.
    """
    options = Options(
        steps=steps, sampler=sampler, length=length, precision=precision, start=start, eta=eta,
        guidance=guidance, rate=rate, known=known, mask=mask, eager=eager,
    )  # fmt: skip
    batch_size = BATCH_SIZE if batch_size is None else positive("batch_size", batch_size)
    drawing = plan(model, labels, n, seed, options, noise)
    count = drawing.count
    x = torch.empty((count, len(drawing.leads), drawing.length), dtype=torch.float32)
    bar = tqdm(
        total=-(-count // batch_size) * drawing.evaluations,
        desc=f"{count} record{'s' if count > 1 else ''}",
        unit="step",
        disable=not progress,
    )
    with bar, evaluating(model):
        for first in range(0, count, batch_size):
            records = range(first, min(first + batch_size, count))
            x[first : records.stop] = drawing.draw(records, bar.update if progress else None)
    return ECGBatch(
        x,
        drawing.leads,
        drawing.fs,
        drawing.rows(range(count)),
        drawing.card.class_names,
        drawing.seed,
        drawing.noise(range(count)) if isinstance(model, Generator) else None,
    )


class _BoundSample:
    """``model.sample``: see ``ecgcore.sampling.sample``.

    An object and no method, since a method of one instance cannot be pickled.
    """

    def __init__(self, model: nn.Module):
        self.model = model

    def __call__(self, *args: Any, **kwargs: Any) -> ECGBatch:
        return sample(self.model, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<sample of {type(self.model).__name__}>"


_signature = inspect.signature(sample)
_BoundSample.__signature__ = _signature.replace(  # type: ignore[attr-defined]
    parameters=list(_signature.parameters.values())[1:]
)


def bind(model: nn.Module) -> None:
    """Give a model its ``sample``; copies and pickles of the model have their own."""
    model.sample = _BoundSample(model)  # type: ignore[assignment]

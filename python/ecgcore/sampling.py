"""Drawing ECGs from a trained generator: labels in, millivolt in twelve leads out."""

from __future__ import annotations

import inspect
import operator
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ecgcore import data, diffusion, random, report
from ecgcore._files import replacing
from ecgcore.data.classes import parse_labels
from ecgcore.data.leads import BASES
from ecgcore.models.card import ModelCard
from ecgcore.models.gan import Generator

__all__ = ["BATCH_SIZE", "ECGBatch", "bind", "sample"]

BATCH_SIZE = 16
"""Records drawn together unless said otherwise."""


@dataclass(frozen=True, eq=False)
class ECGBatch:
    """Drawn records.

    Attributes:
        x: signals, ``(n, leads, L)`` float32 on the CPU, in mV; twelve leads for an ECG.
        leads: names of the rows of a record, ``data.LEADS`` for an ECG.
        fs: sampling rate in Hz.
        labels: ``(n, classes)`` float32, what each record was asked to be.
        class_names: of the label's columns.
        seed: what ``model.sample(..., seed=...)`` takes to draw the same records again; None where
            the latent was given.
        noise: of a GAN, the records' latents: ``model.sample(..., noise=...)`` takes them, changed
            or mixed if you like; None for other models.
    """

    x: Tensor
    leads: tuple[str, ...]
    fs: float
    labels: Tensor
    class_names: tuple[str, ...]
    seed: int | None
    noise: Tensor | None = None

    def __len__(self) -> int:
        return self.x.shape[0]

    def __repr__(self) -> str:
        return (
            f"ECGBatch({len(self)} records, {len(self.leads)} leads, {self.x.shape[2]} samples at "
            f"{self.fs:g} Hz, {self._origin})"
        )

    @property
    def _origin(self) -> str:
        return "given latents" if self.seed is None else f"seed {self.seed}"

    def title(self, i: int) -> str:
        """What a sheet of record ``i`` is called."""
        return f"{self.names(i)}, record {i}, {self._origin}"

    def names(self, i: int) -> str:
        """The classes of record ``i``: ``"MI+CD"``; a class of weight other than 1 with its
        weight."""
        parts = [
            name if weight == 1 else f"{weight:.3g} {name}"
            for name, weight in zip(self.class_names, self.labels[i].tolist(), strict=True)
            if weight != 0
        ]
        return "+".join(parts) or "no class"

    def plot(self, path: str | os.PathLike[str]) -> list[Path]:
        """Draw every record as an ECG sheet (25 mm/s, 10 mm/mV), marked as synthetic.

        Args:
            path: ``NAME.png`` or ``NAME.svg`` is the sheet of record 0, record ``i`` becomes
                ``NAME_i.png``; a path without suffix is a folder that gets ``00000.png``, ...

        Returns:
            The files, by record.
        """
        path = Path(path)
        if path.suffix:
            files = [
                path.with_stem(f"{path.stem}_{i}" if i else path.stem) for i in range(len(self))
            ]
        else:
            files = [path / f"{i:05d}.png" for i in range(len(self))]
        for i, file in enumerate(files):
            report.ecg_sheet(
                self.x[i].numpy(), self.fs, file, leads=self.leads, title=self.title(i)
            )
        return files

    def to_wfdb(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write every record as a WFDB header and 16-bit signal file, as PTB-XL has them.

        Args:
            folder: gets ``00000.hea``, ``00000.dat``, ...; it is made if need be. Samples are
            stored
                as whole microvolt.

        Returns:
            The headers, by record.

        Raises:
            DataError: a value beyond 32 mV.
        """
        headers = []
        for i, x in enumerate(self.x):
            comments = (
                " synthetic: drawn by a generative model",
                f" classes: {self.names(i)}",
                f" {self._origin}, record {i}",
            )
            headers.append(
                data.write_record(
                    folder, f"{i:05d}", x, self.fs, leads=self.leads, comments=comments
                )
            )
        return headers

    def to_npy(self, folder: str | os.PathLike[str], split: str = "train") -> list[Path]:
        """Write the pair of arrays that SynthECG and SSSD-ECG train and evaluate on.

        Args:
            folder: gets ``{split}_data.npy (n, 12, L)``, in mV and in the order of
                ``data.REFERENCE_LEADS``, and ``{split}_labels.npy (n, classes)``, both float32. It
                is made if need be. Records that are not twelve-lead ECGs are written as they are.
            split: ``"train"``, ``"val"`` or ``"test"``.

        Returns:
            The two files.
        """
        if split not in ("train", "val", "test"):
            raise ValueError(f"to_npy: split must be 'train', 'val' or 'test', got {split!r}")
        x = self.x
        if self.leads == data.LEADS:
            x = data.reorder_leads(x, self.leads, data.REFERENCE_LEADS)
        files = [Path(folder) / f"{split}_{kind}.npy" for kind in ("data", "labels")]
        with replacing(files[0]) as signals, replacing(files[1]) as labels:
            np.save(signals, x.numpy())
            np.save(labels, self.labels.numpy())
        return files


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
    batch_size: int | None = None,
) -> ECGBatch:
    """Draw ECGs. A loaded model has this as its ``sample`` method.

    Record ``i`` depends on ``(seed, i)`` alone: its noise, or its latent, is the same numbers
    whatever the batch size, the number of records or the device.

    Args:
        model: a diffusion model or a GAN's generator with a ``card``, as ``ecgcore.load`` returns
            it.
        labels: None (one-hot, cycling through the classes), a class name (``"MI"``, ``"MI+CD"`` for
            both) or a list of them, class indices ``(k,)`` int64, or a floating ``(k, classes)``
            array used as it is.
        n: number of records in all, by default one per label; record ``i`` takes label ``i % k``.
        steps: number of model evaluations per record; None is what the sampler is meant to take,
            all steps of the schedule for ``"ddpm"``. A GAN takes no steps.
        sampler: ``"ddpm"``, the reference's procedure. A GAN takes no sampler.
        seed: 0 to 2^64 - 1; None draws one, which the result's ``seed`` tells.
        length: samples per record, by default the length in training. A GAN takes multiples of its
            own number (125 for WaveGAN*, 500 for Pulse2Pulse, 2500 for deepfake-ecg).
        progress: show a bar.
        noise: a GAN's latents, ``(n, ...)``, as ``ECGBatch.noise`` has them, instead of a seed; a
            diffusion model takes none here.
        batch_size: records drawn together, by default 16.

    Returns:
        The records in mV. Eight channels that carry an ECG are completed to twelve leads, twelve
        are put in the order of ``data.LEADS``, others are given as they are.

    Raises:
        DataError: an unknown label.
        ValueError: numbers out of range, or options that do not fit the model.
    """
    card = getattr(model, "card", None)
    if not isinstance(card, ModelCard):
        raise ValueError(
            f"sample: {type(model).__name__} has no card that names its classes and leads; "
            "load it by ecgcore.load, or set model.card to a models.card.ModelCard"
        )
    batch_size = BATCH_SIZE if batch_size is None else _positive("batch_size", batch_size)
    if noise is not None:
        noise = torch.as_tensor(noise)
        n = noise.shape[0] if n is None and noise.dim() else n
    rows = _label_rows(labels, card, n)
    count = rows.shape[0]
    if seed is not None and not 0 <= (seed := _integer("seed", seed)) <= random.MAX_SEED:
        raise ValueError(f"sample: seed must be in [0, 2^64), got {seed}")
    if seed is None and noise is None:
        seed = secrets.randbits(48)

    device = next(model.parameters()).device
    draw: _FromLatents | _ByDiffusion
    if isinstance(model, Generator):
        if steps is not None or sampler != "ddpm":
            raise ValueError(
                f"sample: {type(model).__name__} draws in one pass, it takes neither steps nor a "
                f"sampler; got steps={steps!r}, sampler={sampler!r}"
            )
        noise, length = _latents(model, noise, seed, count, length)
        draw = _FromLatents(model, noise, device)
    else:
        if card.diffusion is None:
            raise ValueError(f"sample: {type(model).__name__} has no noise schedule in its card")
        if noise is not None:
            raise ValueError(
                "sample: noise is the latent of a GAN; for a diffusion model give a seed, or call "
                "diffusion.sample with the draws"
            )
        assert seed is not None
        length = card.length if length is None else _positive("length", length)
        shape = (len(card.lead_names), length)
        schedule = diffusion.NoiseSchedule.linear(**_schedule(card.diffusion))
        draw = _ByDiffusion(model, shape, schedule, sampler, steps, seed, device)

    x = torch.empty((count, len(card.lead_names), length), dtype=torch.float32)
    training = model.training
    model.eval()
    bar = tqdm(
        total=-(-count // batch_size) * draw.evaluations,
        desc=f"{count} record{'s' if count > 1 else ''}",
        unit="step",
        disable=not progress,
    )
    try:
        with bar, torch.no_grad():
            for first in range(0, count, batch_size):
                records = range(first, min(first + batch_size, count))
                part = slice(records.start, records.stop)
                x[part] = draw(records, rows[part] if card.class_names else None, bar.update)
    finally:
        model.train(training)
    x, leads = _to_leads(x / card.scale, card.lead_names)
    return ECGBatch(x, leads, card.fs, rows, card.class_names, seed, noise)


@dataclass(frozen=True)
class _ByDiffusion:
    """Draws records by the reverse process."""

    model: nn.Module
    shape: tuple[int, int]
    schedule: diffusion.NoiseSchedule
    sampler: str
    steps: int | None
    seed: int
    device: torch.device

    @property
    def evaluations(self) -> int:
        return self.steps or self.schedule.T

    def __call__(self, records: range, labels: Tensor | None, step: Callable[[], Any]) -> Tensor:
        return diffusion.sample(
            self.model,
            (len(records), *self.shape),
            labels,
            self.schedule,
            sampler=self.sampler,
            steps=self.steps,
            noise=_Noise(self.shape, self.seed, records, self.device),
            callback=lambda i, t, x, eps: step(),
        )


@dataclass(frozen=True)
class _FromLatents:
    """Draws records by a GAN's generator."""

    model: Generator
    noise: Tensor
    device: torch.device
    evaluations: int = 1

    def __call__(self, records: range, labels: Tensor | None, step: Callable[[], Any]) -> Tensor:
        noise = self.noise[records.start : records.stop].to(self.device)
        given = () if labels is None else (labels.to(self.device),)
        x: Tensor = self.model(noise, *given)
        step()
        return x


def _latents(
    model: Generator, noise: Tensor | None, seed: int | None, count: int, length: Any
) -> tuple[Tensor, int]:
    """The latents ``(count, ...)`` of all records, on the CPU, and the samples of a signal."""
    if noise is None:
        assert seed is not None
        card: Any = model.card
        length = card.length if length is None else _positive("length", length)
        shape = model.latent_shape(length)
        noise = random.uniform(shape, seed=seed, records=range(count), draw=0)
    elif seed is not None:
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


@dataclass(frozen=True)
class _Noise:
    """The draws of some records, made when they are asked for: ``(k) -> (records, *shape)``."""

    shape: tuple[int, ...]
    seed: int
    records: range
    device: torch.device

    def __call__(self, draw: int) -> Tensor:
        return random.normal(
            self.shape, seed=self.seed, records=self.records, draw=draw, device=self.device
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


def _label_rows(labels: object, card: ModelCard, n: int | None) -> Tensor:
    """One row of class weights per record, ``(n, classes)``."""
    if card.class_names:
        rows = torch.from_numpy(parse_labels(labels, card.class_names, function="sample"))
    elif labels is None:
        rows = torch.zeros(1, 0)
    else:
        raise ValueError("sample: labels must be None, this model has no classes")
    count = rows.shape[0] if n is None else _positive("n", n)
    return rows[torch.arange(count) % rows.shape[0]]


def _integer(name: str, value: Any) -> int:
    """An int, or a NumPy or torch one; True and False are none."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"sample: {name} must be an integer, got {value!r}")
    return operator.index(value)


def _positive(name: str, value: Any) -> int:
    number = _integer(name, value)
    if number < 1:
        raise ValueError(f"sample: {name} must be at least 1, got {number}")
    return number


def _schedule(values: Mapping[str, float]) -> dict[str, Any]:
    return {"T": int(values["T"]), "beta_0": values["beta_0"], "beta_T": values["beta_T"]}


def _to_leads(x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, tuple[str, ...]]:
    """Channels ``(n, channels, L)`` as the leads they stand for."""
    for basis, eight in BASES.items():
        if names == eight:
            return data.to_twelve_leads(x, basis=basis, order="ptbxl"), data.LEADS
    if set(names) == set(data.LEADS):
        return data.reorder_leads(x, names, data.LEADS), data.LEADS
    return x, names

"""Records as one tensor in the model's own channels and units, and the order in which a run visits
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from ecgcore import data
from ecgcore.data.quality import qrs_peaks
from ecgcore.errors import ConfigError, DataError
from ecgcore.train.config import DataConfig
from ecgcore.train.seeds import generator


class Dataset(Protocol):
    """What ``data.PTBXL``, ``data.NpyDataset`` and any data set of the user's have in common."""

    @property
    def leads(self) -> Sequence[str]: ...

    @property
    def fs(self) -> float: ...

    @property
    def class_names(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Records:
    """A data set in memory, cut into windows on the fly.

    Attributes:
        x: ``(n, channels, samples)`` float32 in model units.
        y: ``(n, classes)`` float32; no columns for a model without classes.
        length: samples in a window.
        starts: allowed first samples of a window, ``(n, most)`` int64, filled up by repeating each
            record's own.
        jitter: samples by which a start is moved at most, either way.
    """

    x: Tensor
    y: Tensor
    class_names: tuple[str, ...]
    lead_names: tuple[str, ...]
    fs: float
    scale: float
    length: int
    starts: Tensor
    jitter: int = 0

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, step: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
        """Batch number ``step``: ``x (size, channels, length)``, ``y (size, classes)``.

        The records of epoch ``e`` come in a random order that depends on ``(seed, e)``; batches are
        consecutive pieces of these orders one after the other, so every record is visited equally
        often whatever ``size`` is.
        """
        positions = range(step * size, (step + 1) * size)
        index = torch.stack(
            [_order(len(self), seed, p // len(self))[p % len(self)] for p in positions]
        )
        draws = torch.rand(2, size, generator=generator(seed, "window", step))
        choice = (draws[0] * self.starts.shape[1]).long()
        start = self.starts[index, choice] + (draws[1] * (2 * self.jitter + 1)).long() - self.jitter
        start = start.clamp(0, self.x.shape[-1] - self.length)
        windows = self.x.unfold(-1, self.length, 1)  # a view: (n, channels, starts, length)
        return windows[index, :, start], self.y[index]


@lru_cache(maxsize=4)
def _order(n: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(n, generator=generator(seed, "order", epoch))


def open_dataset(config: DataConfig, split: str = "train") -> Dataset:
    """The data set in ``config.data_directory``, or simulated records if there is none.

    ``split``: ``"train"`` is ``config.folds`` of PTB-XL; ``"val"`` and ``"test"`` are folds 9 and
    10, or the arrays of that name.
    """
    path = config.data_directory
    if config.source == "simulate" or (path is None and config.source is None):
        return simulated(config, config.seed)
    if path is None:
        raise ConfigError(f"dataset.source is {config.source!r} but no folder is given; use --data")
    if not float(config.sampling_rate).is_integer():
        raise ConfigError(f"dataset.sampling_rate: expected whole Hz, got {config.sampling_rate}")
    return data.open_dataset(
        path,
        split,
        source=config.source,
        fs=int(config.sampling_rate),
        task=config.task,
        folds=(config.folds or range(1, 11)) if split == "train" else None,
        keep_unlabelled=config.keep_unlabelled,
    )


def simulated(config: DataConfig, seed: int) -> data.ArrayDataset:
    """``config.records`` records of the simulator, drawn from ``seed``."""
    drawn = data.simulate_beats(
        config.records,
        seed,
        fs=config.sampling_rate,
        seconds=config.seconds,
        spread=config.spread,
    )
    return data.ArrayDataset(
        drawn.x, drawn.y, leads=data.LEADS, fs=config.sampling_rate, class_names=data.SUPERCLASSES
    )


def load_records(
    dataset: Dataset,
    config: DataConfig,
    *,
    channels: int,
    classes: int,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Records:
    """Read every record of ``dataset`` into memory, as a model with ``channels`` and ``classes``
    wants them.

    Eight channels are the leads of ``config.basis``, twelve the reference's order
    (``data.REFERENCE_LEADS``).

    ``limit`` reads at most so many records, spread evenly over the data set. ``progress`` is told
    after each how many are read, of how many.

    Raises:
        ConfigError: the model's channels, classes, segment length or sampling rate do not fit the
            data.
        DataError: no record, records of unequal shape, or values that are not finite.
    """
    if not len(dataset):
        raise DataError("the data set holds no record")
    names = tuple(dataset.class_names)
    if classes not in (0, len(names)):
        raise ConfigError(
            f"model.label_embed_classes is {classes} but the data has {len(names)} classes "
            f"({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
        )
    if dataset.fs != config.sampling_rate:
        raise ConfigError(
            f"dataset.sampling_rate is {config.sampling_rate} Hz but the data has {dataset.fs} Hz"
        )
    leads = _channel_names(channels, config)

    count = len(dataset) if limit is None else min(limit, len(dataset))
    x, y = None, torch.empty(count, classes)
    for i in range(count):
        signal, label = dataset[i * len(dataset) // count]
        if x is None:
            x = torch.empty(count, channels, signal.shape[-1])
        if signal.shape[-1] != x.shape[-1]:
            raise DataError(
                f"record {i} has {signal.shape[-1]} samples, those before it {x.shape[-1]}"
            )
        x[i] = _to_channels(signal, leads, config)
        y[i] = label[:classes]
        if progress is not None:
            progress(i + 1, count)
    assert x is not None
    if not (bad := torch.isfinite(x).flatten(1).all(1)).all():
        raise DataError(f"record {int((~bad).nonzero()[0])} holds values that are not finite")
    if config.segment_length > x.shape[-1]:
        raise ConfigError(
            f"dataset.segment_length is {config.segment_length} samples, "
            f"but the records have {x.shape[-1]}"
        )

    starts = _window_starts(x, config)
    jitter = round(config.jitter * config.sampling_rate) if config.window == "beat" else 0
    return Records(
        x=x * config.scale,
        y=y,
        class_names=names,
        lead_names=leads,
        fs=float(dataset.fs),
        scale=config.scale,
        length=config.segment_length,
        starts=starts,
        jitter=jitter,
    )


def _channel_names(channels: int, config: DataConfig) -> tuple[str, ...]:
    if channels == 8:
        return data.BASES[config.basis]
    if channels == 12:
        return tuple(data.REFERENCE_LEADS)
    raise ConfigError(f"model: training on ECGs needs 8 or 12 channels, got {channels}")


def _to_channels(signal: Tensor, leads: tuple[str, ...], config: DataConfig) -> Tensor:
    if len(leads) == 8:
        return data.to_eight_leads(signal, basis=config.basis, order="ptbxl")
    return signal[[data.LEADS.index(lead) for lead in leads]]


def _window_starts(x: Tensor, config: DataConfig) -> Tensor:
    last = x.shape[-1] - config.segment_length
    if config.window == "start" or last == 0:
        return torch.zeros(len(x), 1, dtype=torch.int64)
    if config.window == "random":
        return torch.arange(last + 1).expand(len(x), -1)
    lead_in = round(config.lead_in * config.sampling_rate)
    rows = []
    for record in x:
        start = torch.as_tensor(qrs_peaks(record.numpy(), config.sampling_rate)) - lead_in
        start = start[(start >= 0) & (start <= last)]
        rows.append(start if len(start) else torch.arange(last + 1))  # no beat found: anywhere
    most = max(map(len, rows))
    return torch.stack([row.repeat(-(-most // len(row)))[:most] for row in rows]).long()

"""Large runs: more records than memory holds, drawn into files, by one process or several.

Records are drawn in parts, and each part is written as soon as it is made. A run that was stopped,
in whatever way, goes on with the parts that are missing. Which records make a part is fixed, so
that the result is the same, bit for bit on one machine, however often it was stopped; and since a
record depends on the seed and its number alone, several processes share the parts and need no word
with each other until the end.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ecgcore import data
from ecgcore.errors import EcgcoreError
from ecgcore.models.gan import Generator
from ecgcore.nn.s4 import reserve_lengths
from ecgcore.sampling.batch import ECGBatch, npy_files, npy_order
from ecgcore.sampling.draw import BATCH_SIZE
from ecgcore.sampling.options import Options, positive
from ecgcore.sampling.parts import Parts, read_settings, settings_file, write_npy
from ecgcore.sampling.plan import Plan, evaluating, plan
from ecgcore.train.distributed import World
from ecgcore.train.interrupt import termination_interrupts

GAN_BATCHES = 64
"""Batches in a part where one takes milliseconds; else a part is one batch."""

_LABEL_ROWS = 65536
"""Rows of labels that exist at a time while they are written."""

T = TypeVar("T")


@dataclass(frozen=True)
class SampledFolder:
    """Records that were drawn into files.

    Attributes:
        signals: ``{split}_data.npy (count, 12, L)``, as ``ECGBatch.to_npy`` writes it.
        labels: ``{split}_labels.npy (count, classes)``.
        count: number of records.
        leads, fs, class_names, seed: as in ``ECGBatch``.
    """

    signals: Path
    labels: Path
    count: int
    leads: tuple[str, ...]
    fs: float
    class_names: tuple[str, ...]
    seed: int

    def first(self, n: int) -> ECGBatch:
        """The first ``n`` records, or as many as there are, back in memory."""
        x, y = (
            torch.from_numpy(np.array(np.load(path, mmap_mode="r")[:n]))
            for path in (self.signals, self.labels)
        )
        if self.leads == data.LEADS:
            x = data.reorder_leads(x, data.REFERENCE_LEADS, data.LEADS)
        return ECGBatch(x, self.leads, self.fs, y, self.class_names, self.seed)


def unfinished(folder: str | Path) -> bool:
    """Whether ``folder`` holds a run that was stopped."""
    return settings_file(Path(folder)).exists()


def sample_to(
    folder: str | Path,
    model: nn.Module,
    labels: object = None,
    n: int | None = None,
    *,
    seed: int | None = None,
    batch_size: int | None = None,
    split: str | int = "train",
    resume: bool = True,
    overwrite: bool = False,
    world: World | None = None,
    progress: bool = False,
    **options: Any,
) -> SampledFolder:
    """Draw records into ``folder``: the files that ``model.sample(...).to_npy(folder)`` writes,
    whatever their number.

    Until the end the parts and their settings lie in ``folder/parts``; then they are joined, for
    which the disk has to hold the signals twice, and nothing of them is left.

    Args:
        labels, n, seed, batch_size: as in ``model.sample``. Without a seed a run that goes on takes
            its own.
        split: ``"train"``, ``"val"``, ``"test"`` or a number, for the names of the files: see
            ``ECGBatch.to_npy``.
        resume: go on with the run that ``folder`` holds, if it was stopped; else start it anew.
        overwrite: replace files of these names.
        world: the processes that share the work (``train.connect``); each has its own copy of the
            model. With a time-out longer than they differ by: the first waits for the last.
        progress: show a bar over the whole run, in the first process.
        options: ``steps``, ``sampler``, ``length``, ``precision``, ``start``, ``eta``,
            ``guidance``, ``rate``, ``known``, ``mask``, ``eager``, as in ``model.sample``.

    Raises:
        EcgcoreError: ``folder`` holds a run with other settings, which are named, or another
            process has failed.
        FileExistsError: the files are there already.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, with what is kept as its text.
    """
    world = world or World()
    batch_size = BATCH_SIZE if batch_size is None else positive("batch_size", batch_size)
    drawing = plan(model, labels, n, seed, Options(**options))
    files = npy_files(folder, split, "sample_to")
    size = batch_size * (GAN_BATCHES if isinstance(model, Generator) else 1)
    parts = Parts(Path(folder), drawing.count, size)
    settings = _settings(drawing, batch_size, size, split)

    begun: _Begun | Exception | None = None
    if world.first:
        try:
            begun = _begin(parts, drawing, settings, files, seed is None, resume, overwrite)
        except (EcgcoreError, OSError) as error:
            begun = error
    begun = _with_the_others(world.agree, begun)
    if not isinstance(begun, _Begun):
        assert begun is not None
        raise begun
    drawing = dataclasses.replace(drawing, seed=begun.seed)

    there = frozenset(begun.there)
    missing = [part for part in range(len(parts)) if part not in there]
    shown = progress and world.first
    done = sum(len(parts.records(part)) for part in there)
    with _Bar(drawing, done, world.size, show=shown) as bar, termination_interrupts():
        try:
            with evaluating(model):
                for part in missing[world.rank :: world.size]:
                    x = _draw_part(drawing, parts.records(part), batch_size, bar)
                    parts.save(part, npy_order(x, drawing.leads))
            _with_the_others(lambda _: world.barrier(), None)
            if world.first:
                _finish(parts, drawing, files)
            bar.finish()
        except KeyboardInterrupt:
            kept = sum(len(parts.records(part)) for part in parts.there())
            raise KeyboardInterrupt(
                f"{kept} of {parts.count} records are kept in {parts.path}; run the same again to "
                "go on"
            ) from None
    _with_the_others(lambda _: world.barrier(), None)
    assert drawing.seed is not None
    card = drawing.card
    return SampledFolder(
        *files, drawing.count, drawing.leads, drawing.fs, card.class_names, drawing.seed
    )


@dataclass(frozen=True)
class _Begun:
    """What all processes have to know of a run: its seed, and which parts are there."""

    seed: int | None
    there: tuple[int, ...] = ()


def _begin(
    parts: Parts,
    drawing: Plan,
    settings: dict[str, Any],
    files: tuple[Path, Path],
    any_seed: bool,
    resume: bool,
    overwrite: bool,
) -> _Begun:
    """Take up the run in the folder, or begin one."""
    folder = parts.path.parent
    for file in files:  # of a run that was killed while it joined its parts
        for stale in folder.glob(f".{file.stem}.*.tmp{file.suffix}"):
            stale.unlink()
    before = read_settings(folder) if resume else None
    there = () if before is None else tuple(parts.there())
    if before is not None and any_seed:
        settings = settings | {"seed": before.get("seed")}
    if before is not None and there:
        # Before the model, whose kernels a length that is refused shall not lengthen.
        _compare(folder, before, settings)
    settings = settings | {"model": _fingerprint(drawing)}
    if before is not None and there:
        _compare(folder, before, settings)
        return _Begun(settings["seed"], there)
    for file in files:
        if file.exists() and not overwrite:
            raise FileExistsError(f"{file} exists; choose another folder, or overwrite=True")
    parts.begin(settings)
    return _Begun(settings["seed"])


def _compare(folder: Path, before: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raise EcgcoreError for the first of ``settings`` that was another one before."""
    for key, value in settings.items():
        if before.get(key) != value:
            raise EcgcoreError(
                f"{folder} holds an unfinished run with {key} = {before.get(key)!r}, not "
                f"{value!r}; choose another folder, or start anew (resume=False, --no-resume)"
            )


def _finish(parts: Parts, drawing: Plan, files: tuple[Path, Path]) -> None:
    """Join the parts, write the labels, and leave nothing else behind."""
    count = drawing.count
    shape = (count, len(drawing.leads), drawing.length)
    write_npy(files[0], shape, parts.read(shape))
    rows = (
        drawing.rows(range(first, min(first + _LABEL_ROWS, count))).numpy()
        for first in range(0, count, _LABEL_ROWS)
    )
    write_npy(files[1], (count, drawing.labels.shape[1]), rows)
    parts.remove()


def _draw_part(drawing: Plan, records: range, batch_size: int, bar: _Bar) -> Tensor:
    pieces = []
    for first in range(records.start, records.stop, batch_size):
        batch = range(first, min(first + batch_size, records.stop))
        pieces.append(drawing.draw(batch, bar.step_of(len(batch))))
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def _settings(drawing: Plan, batch_size: int, part: int, split: str | int) -> dict[str, Any]:
    """All that the result depends on beside the model, as JSON has it; tensors by a digest."""
    options, known = drawing.options, drawing.known
    start = options.start
    if not isinstance(start, str):
        start = f"moments {_digest(start.mean.cpu().numpy(), start.std.cpu().numpy())}"
    return {
        "records": drawing.count,
        "labels": f"{len(drawing.labels)} of {_digest(drawing.labels.numpy())}",
        "seed": drawing.seed,
        "sampler": options.sampler,
        "steps": options.steps,
        "eta": float(options.eta),
        "length": drawing.length,
        "precision": options.precision,
        "start": start,
        "guidance": float(options.guidance),
        "rate": float(options.rate),
        "known": None if known is None else _digest(known.x, known.mask),
        "split": split,
        "batch_size": batch_size,
        "part": part,
    }


def _fingerprint(drawing: Plan) -> str:
    """Name and digest of the model: its card and its weights, as they are while it draws."""
    reserve_lengths(drawing.model, max(1, round(drawing.length * drawing.options.rate)))
    state = drawing.model.state_dict()
    weights = (state[key].detach().cpu().contiguous() for key in sorted(state))
    digest = _digest(
        np.frombuffer(drawing.card.to_json().encode(), np.uint8),
        *(weight.view(-1).view(torch.uint8).numpy() for weight in weights),
    )
    return f"{type(drawing.model).__name__} {digest}"


def _digest(*arrays: np.ndarray) -> str:
    found = hashlib.blake2b(digest_size=8)
    for array in arrays:
        found.update(f"{array.dtype} {array.shape}".encode())
        for row in array if array.ndim == 3 else [array]:  # records, which may lie on the disk
            found.update(np.ascontiguousarray(row).data)
    return found.hexdigest()


def _with_the_others(act: Callable[[T], T], value: T) -> T:
    """``act`` of ``torch.distributed``, which knows no words for a process that is gone."""
    try:
        return act(value)
    except RuntimeError as error:
        raise EcgcoreError(
            "another process of this run has ended early; its own message says why"
        ) from error


class _Bar:
    """How much of a run is done, in records; the other processes are taken to be as far."""

    def __init__(self, drawing: Plan, done: int, processes: int, *, show: bool) -> None:
        self._each = processes / drawing.evaluations
        self._done, self._total, self._show = float(done), drawing.count, show
        self._bar = tqdm(
            total=drawing.count,
            initial=done,
            disable=not show,
            bar_format="{percentage:3.0f}%|{bar}| {n:.0f}/{total} records, {elapsed}<{remaining}",
        )

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def step_of(self, records: int) -> Callable[[], None] | None:
        """To be called after each evaluation of so many records."""
        return (lambda: self._to(self._done + records * self._each)) if self._show else None

    def finish(self) -> None:
        self._to(self._total)

    def _to(self, done: float) -> None:
        self._done = min(done, self._total)
        self._bar.update(self._done - self._bar.n)

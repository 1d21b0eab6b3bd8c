"""WFDB records in format 16: a text header ``NAME.hea`` and 16-bit samples ``NAME.dat``, as PTB-XL
stores them.

Read and written here so that ECGs need no further package; written files are byte for byte those of
the data sets. Format: G. Moody, WFDB Applications Guide, header(5) and signal(5). Of it: one
segment, format 16 (little-endian two's complement, samples of all signals interleaved), one sample
per frame, no skew. Anything else is refused by name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ecgcore.data.base import MissingDataError
from ecgcore.data.files import write_file
from ecgcore.data.leads import LEADS
from ecgcore.errors import DataError

_INVALID = -32768  # marks a missing sample in format 16
_PER_MILLIVOLT = {"mV": 1.0, "uV": 1e-3, "µV": 1e-3, "V": 1e3}
_GAIN = re.compile(r"(?P<gain>[^(/]+)(\((?P<baseline>[^)]*)\))?(/(?P<units>\S+))?")


@dataclass(frozen=True)
class Signal:
    """One line of a header: how a lead is stored.

    ``physical = (stored - baseline) / gain`` in ``units``; ``checksum`` is the sum of the stored
    samples modulo 65536 in either sign convention. ``gain`` keeps the type it was written with,
    ``1185`` or ``1000.0``.
    """

    file: str
    gain: int | float
    baseline: int
    units: str
    adc_resolution: int
    adc_zero: int
    first: int
    checksum: int
    block_size: int
    name: str


@dataclass(frozen=True)
class Header:
    """A header file.

    ``comments`` are kept without their ``#``; ``start`` holds time and date as written.
    """

    record: str
    fs: int | float
    length: int
    signals: tuple[Signal, ...]
    start: str = ""
    comments: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(signal.name for signal in self.signals)

    def to_text(self) -> str:
        """The header as a file's text."""
        start = f" {self.start}" if self.start else ""
        lines = [f"{self.record} {len(self.signals)} {self.fs} {self.length}{start}"]
        for s in self.signals:
            lines.append(
                f"{s.file} 16 {s.gain}({s.baseline})/{s.units} {s.adc_resolution} {s.adc_zero}"
                f" {s.first} {s.checksum} {s.block_size} {s.name}"
            )
        lines.extend(f"#{comment}" for comment in self.comments)
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Record:
    """A header and its samples: ``adc (leads, L)`` int16, as stored."""

    header: Header
    adc: np.ndarray

    @property
    def fs(self) -> int | float:
        return self.header.fs

    @property
    def names(self) -> tuple[str, ...]:
        return self.header.names

    def millivolts(self) -> np.ndarray:
        """The signals ``(leads, L)`` float32 in mV by the header's gains; a missing sample is NaN.

        Units other than V, mV and uV are a :class:`DataError`.
        """
        divisor = np.empty((len(self.adc), 1))
        baseline = np.empty((len(self.adc), 1))
        for i, signal in enumerate(self.header.signals):
            if signal.units not in _PER_MILLIVOLT:
                raise DataError(
                    f"record {self.header.record}: lead {signal.name} is in {signal.units}, not a"
                    " voltage"
                )
            divisor[i] = signal.gain / _PER_MILLIVOLT[signal.units]
            baseline[i] = signal.baseline
        values = ((self.adc - baseline) / divisor).astype(np.float32)
        values[self.adc == _INVALID] = np.nan
        return values


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read ``path``, with or without ``.hea``.

    Errors: :class:`DataError` naming the file, the line and what is wrong.
    """
    file = _header_path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MissingDataError(f"{file} does not exist") from None
    except UnicodeDecodeError:
        raise DataError(f"{file} is not a WFDB header: not a text file") from None
    comments: list[str] = []
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("#"):
            comments.append(line[1:])
        elif line.strip():
            lines.append(line.strip())
    if not lines:
        raise DataError(f"{file} is not a WFDB header: it is empty")
    words = lines[0].split()
    if "/" in words[0]:
        raise DataError(f"{file}: records of several segments are not supported ({words[0]})")
    if len(words) < 4:
        raise DataError(
            f"{file}: the first line must give name, signals, sampling rate and samples, got"
            f" {lines[0]!r}"
        )
    count = _integer(words[1], file, "number of signals")
    fs = _number(words[2].split("/")[0], file, "sampling rate")
    length = _integer(words[3], file, "number of samples")
    if count < 1 or length < 1 or not fs > 0:
        raise DataError(
            f"{file}: signals, sampling rate and samples must be positive: {lines[0]!r}"
        )
    if len(lines) - 1 != count:
        raise DataError(f"{file}: announces {count} signals and describes {len(lines) - 1}")
    signals = tuple(_parse_signal(line, file) for line in lines[1:])
    return Header(words[0], fs, length, signals, " ".join(words[4:]), tuple(comments))


def read_record(path: str | os.PathLike[str]) -> Record:
    """Read a record, ``path`` with or without ``.hea``, and verify its size and checksums.

    Raises:
        MissingDataError: header or samples do not exist (a :class:`DataError` and a
            ``FileNotFoundError``).
        DataError: truncated or too long samples, a checksum that does not match, an unsupported or
            malformed header.
    """
    header = read_header(path)
    folder = _header_path(path).parent
    adc = np.empty((len(header.signals), header.length), np.int16)
    files = dict.fromkeys(signal.file for signal in header.signals)
    for name in files:
        rows = [i for i, signal in enumerate(header.signals) if signal.file == name]
        adc[rows] = _read_samples(folder / name, len(rows), header.length)
    sums = adc.sum(axis=1, dtype=np.int64)
    for signal, total in zip(header.signals, sums, strict=True):
        if (int(total) - signal.checksum) % 65536:
            raise DataError(
                f"{folder / signal.file}: checksum of lead {signal.name} is {int(total) % 65536},"
                " the header says"
                f" {signal.checksum % 65536}; the file is damaged or belongs to another header"
            )
    return Record(header, adc)


def write_record(
    folder: str | os.PathLike[str],
    name: str,
    x: np.ndarray | torch.Tensor,
    fs: int | float,
    *,
    leads: Sequence[str] = LEADS,
    gain: int | float = 1000.0,
    comments: Sequence[str] = (),
) -> Path:
    """Write ``NAME.hea`` and ``NAME.dat`` as PTB-XL does and return the header's path.

    Args:
        folder: made if missing.
        name: record name: letters, digits, ``_`` and ``-``.
        x: ``(leads, L)`` floating, mV; NaN is written as the format's mark for a missing sample.
        fs: Hz.
        leads: names, as they shall stand in the header.
        gain: stored units per mV; 1000 stores whole microvolt.
        comments: lines for the end of the header.

    A value beyond the 16 bits, +-32.767 mV at the usual gain, is a :class:`DataError`.
    """
    array = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
    if array.dtype.kind != "f":
        raise TypeError(f"write_record: x must be floating point in mV, got {array.dtype}")
    if array.ndim != 2 or array.shape[0] != len(leads) or array.shape[1] == 0:
        raise ValueError(f"write_record: x must have shape ({len(leads)}, L), got {array.shape}")
    for lead in leads:
        if not lead.strip() or "\n" in lead:
            raise ValueError(f"write_record: {lead!r} cannot name a lead")
    if not gain > 0:
        raise ValueError(f"write_record: gain must be positive, got {gain}")
    units = array.astype(np.float64) * gain
    missing = np.isnan(units)
    rounded = np.rint(np.where(missing, 0.0, units))
    if np.abs(rounded).max() > 32767:
        row, column = np.unravel_index(np.abs(rounded).argmax(), rounded.shape)
        raise DataError(
            f"write_record: {array[row, column]:.6g} mV in lead {leads[int(row)]} at sample"
            f" {column} does not fit 16 bits at {gain} units/mV"
        )
    adc = np.where(missing, _INVALID, rounded).astype(np.int16)
    signals = tuple(
        Signal(f"{name}.dat", gain, 0, "mV", 16, 0, int(row[0]), 0, 0, lead)
        for row, lead in zip(adc, leads, strict=True)
    )
    header = Header(name, fs, array.shape[1], signals, comments=tuple(comments))
    return write_adc(folder, Record(header, adc))


def write_adc(folder: str | os.PathLike[str], record: Record) -> Path:
    """Write a record's stored samples under its own header and return the header's path.

    First values and checksums are set from the samples; a checksum that is right already keeps its
    sign convention.
    """
    header = record.header
    _check_name(header.record)
    shape = (len(header.signals), header.length)
    if record.adc.dtype != np.int16 or record.adc.shape != shape:
        raise ValueError(
            f"write_adc: samples must be int16 of shape {shape}, got {record.adc.dtype}"
            f" {record.adc.shape}"
        )
    signals = []
    for signal, row in zip(header.signals, record.adc, strict=True):
        total = int(row.sum(dtype=np.int64))
        right = (total - signal.checksum) % 65536 == 0
        checksum = signal.checksum if right else total % 65536
        signals.append(replace(signal, first=int(row[0]), checksum=checksum))
    folder = Path(folder)
    for name in dict.fromkeys(signal.file for signal in signals):
        _check_file(name, folder / f"{header.record}.hea")
        rows = [i for i, signal in enumerate(signals) if signal.file == name]
        samples = np.ascontiguousarray(record.adc[rows].T, dtype="<i2")
        write_file(folder / name, samples.tobytes())
    path = folder / f"{header.record}.hea"
    write_file(path, replace(header, signals=tuple(signals)).to_text().encode())
    return path


def _header_path(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    return path if path.suffix == ".hea" else path.with_name(path.name + ".hea")


def _parse_signal(line: str, file: Path) -> Signal:
    words = line.split(maxsplit=8)
    if len(words) < 2:
        raise DataError(f"{file}: a signal line must give file and format, got {line!r}")
    _check_file(words[0], file)
    if words[1] != "16":
        raise DataError(
            f"{file}: signal format {words[1]} is not supported, only 16 (16-bit samples, one per"
            " frame, no skew)"
        )
    gain: int | float = 200  # the standard's default where a header gives none
    baseline, units = None, "mV"
    if len(words) > 2:
        match = _GAIN.fullmatch(words[2])
        if match is None:
            raise DataError(f"{file}: cannot read the gain {words[2]!r}")
        gain = _number(match["gain"], file, "gain") or 200
        if gain < 0:
            raise DataError(f"{file}: the gain must be positive, got {words[2]!r}")
        if match["baseline"] is not None:
            baseline = _integer(match["baseline"], file, "baseline")
        units = match["units"] or "mV"
    numbers = [_integer(word, file, "signal line") for word in words[3:8]]
    resolution, zero, first, checksum, block = numbers + [12, 0, 0, 0, 0][len(numbers) :]
    if len(numbers) < 4:
        raise DataError(f"{file}: signal line without a checksum: {line!r}")
    name = words[8] if len(words) > 8 else ""
    return Signal(
        words[0],
        gain,
        zero if baseline is None else baseline,
        units,
        resolution,
        zero,
        first,
        checksum,
        block,
        name,
    )


def _read_samples(file: Path, count: int, length: int) -> np.ndarray:
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise MissingDataError(f"{file} does not exist") from None
    expected = 2 * count * length
    if len(data) != expected:
        state = "truncated" if len(data) < expected else "too long"
        raise DataError(
            f"{file} is {state}: {count} leads x {length} samples x 2 bytes = {expected} bytes"
            " expected,"
            f" got {len(data)}"
        )
    return np.frombuffer(data, dtype="<i2").reshape(length, count).T


def _check_file(name: str, header: Path) -> None:
    if "/" in name or "\\" in name or name in {"", ".", ".."}:
        raise DataError(f"{header}: samples must lie beside the header, got {name!r}")


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"record name must be letters, digits, _ and -, got {name!r}")


def _number(word: str, file: Path, what: str) -> int | float:
    try:
        return int(word)
    except ValueError:
        pass
    try:
        value = float(word)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise DataError(f"{file}: {what} must be a number, got {word!r}")
    return value


def _integer(word: str, file: Path, what: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise DataError(f"{file}: {what} must be a whole number, got {word!r}") from None

"""Twelve-lead ECGs on paper: 25 mm/s, 10 mm/mV, in true millimetres.

A small box is 1 mm (40 ms, 0.1 mV), a large one 5 mm (200 ms, 0.5 mV). Every row opens with the
calibration pulse of 1 mV and 200 ms. The usual sheet shows four columns of 2.5 s, one after the
other as a recorder writes them, over a rhythm strip of lead II.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecgcore.data.leads import LEADS
from ecgcore.errors import DataError
from ecgcore.report.page import Page, text_width

MM_PER_SECOND = 25.0
MM_PER_MV = 10.0
WARNING = "SYNTHETIC - not for diagnosis"

_LONGEST = 10.0  # seconds on a sheet
_LIMIT_MV = 6.0  # traces are cut here, or a diverged signal would need a page of metres

_PAPER = "#fffdfc"
_SMALL = "#f9dcdc"
_LARGE = "#f0b3b3"
_INK = "#111111"
_GREY = "#5a5a5a"
_ALERT = "#b3001b"

_MARGIN = 16.0
_HEAD = 17.0
_FOOT = 13.0
_LEAD_IN = 10.0  # for the calibration pulse
_TAIL = 5.0

_CABRERA = ("aVL", "I", "-aVR", "II", "aVF", "III")

# columns, seconds per column of a ten-second record, least distance of two rows in mm, rhythm strip
_LAYOUTS: dict[str, tuple[int, float, float, bool]] = {
    "3x4": (4, 2.5, 35.0, True),
    "6x2": (2, 5.0, 25.0, False),
    "12x1": (1, 10.0, 15.0, False),
}


@dataclass(frozen=True)
class _Cell:
    """A piece of one lead: where it starts on the paper, in mm after the calibration pulse, and its
    height in mm.
    """

    name: str
    left: float
    trace: np.ndarray


def ecg_sheet(
    x: np.ndarray,
    fs: float,
    path: str | os.PathLike[str],
    *,
    leads: Sequence[str] = LEADS,
    title: str = "",
    synthetic: bool = True,
    layout: str | None = None,
    cabrera: bool = False,
    band: tuple[float, float] | None = (0.05, 40.0),
) -> Path:
    """Draw one ECG on paper and write it to ``path`` (``.png``, ``.svg`` or ``.pdf``).

    Args:
        x: ``(leads, L)`` in mV, array or tensor. Ten seconds fill a sheet; of a longer record the
            first ten are shown, of a shorter one the same seconds in every column.
        fs: sampling rate in Hz.
        path: file to write.
        leads: names of the rows of ``x``. Sets other than the twelve are drawn one below the other.
        title: printed at the top left.
        synthetic: print ``SYNTHETIC - not for diagnosis``. Say ``False`` for recorded ECGs only.
        layout: ``"3x4"`` with rhythm strip (the default for twelve leads), ``"6x2"`` or ``"12x1"``.
        cabrera: limb leads in the order of their axes, aVL, I, -aVR, II, aVF, III.
        band: display filter in Hz, as the sheet's legend states it: zero phase, 3 dB points;
            ``None`` draws the samples as they are. Either way a lead's median lies on its line.

    Raises:
        DataError: NaN or infinite values.
        ValueError: shapes, names, layout or file suffix.
    """
    page = sheet_page(
        x,
        fs,
        leads=leads,
        title=title,
        synthetic=synthetic,
        layout=layout,
        cabrera=cabrera,
        band=band,
    )
    return page.save(path)


def sheet_svg(
    x: np.ndarray,
    fs: float,
    *,
    leads: Sequence[str] = LEADS,
    title: str = "",
    synthetic: bool = True,
    layout: str | None = None,
    cabrera: bool = False,
    band: tuple[float, float] | None = (0.05, 40.0),
) -> str:
    """The sheet of :func:`ecg_sheet` as an SVG element, to be inlined in HTML."""
    page = sheet_page(
        x,
        fs,
        leads=leads,
        title=title,
        synthetic=synthetic,
        layout=layout,
        cabrera=cabrera,
        band=band,
    )
    return page.to_svg()


def sheet_page(
    x: np.ndarray,
    fs: float,
    *,
    leads: Sequence[str] = LEADS,
    title: str = "",
    synthetic: bool = True,
    layout: str | None = None,
    cabrera: bool = False,
    band: tuple[float, float] | None = (0.05, 40.0),
) -> Page:
    """The sheet of :func:`ecg_sheet` as a :class:`Page`."""
    signal, names = _check(x, fs, leads)
    duration = signal.shape[-1] / fs
    signal = display_filter(signal, fs, band) if band is not None else signal.copy()
    signal -= np.median(signal, axis=-1, keepdims=True)
    cut = bool((np.abs(signal) > _LIMIT_MV).any())
    by_name = dict(zip(names, np.clip(signal, -_LIMIT_MV, _LIMIT_MV) * MM_PER_MV, strict=True))
    rows, spacing, seconds = _arrange(by_name, fs, duration, layout, cabrera)

    width = max(cell.left + len(cell.trace) / fs * MM_PER_SECOND for row in rows for cell in row)
    width = max(5 * np.ceil((_LEAD_IN + width + _TAIL - 1e-6) / 5), 150.0)
    baselines, height = _baselines(rows, fs, spacing, fill=180.0 if len(rows) == 4 else 0.0)
    page = Page(
        width + 2 * _MARGIN,
        height + _HEAD + _FOOT,
        title=" - ".join(part for part in (title, WARNING if synthetic else "") if part),
    )
    _paper(page, width, height)
    for row, baseline in zip(rows, baselines, strict=True):
        _draw_row(page, row, _HEAD + baseline, fs)
    _write_margins(page, title, synthetic, _legend(fs, duration, band, len(rows[0]), seconds, cut))
    return page


def display_filter(x: np.ndarray, fs: float, band: tuple[float, float]) -> np.ndarray:
    """Zero-phase band-pass by FFT over the mirrored signal; 3 dB at both ends of ``band`` in Hz.

    Second order at the lower end, fourth-order Butterworth at the upper one.
    """
    low, high = band
    if not 0 <= low < high:
        raise ValueError(f"band must be two rising frequencies in Hz, got {band}")
    length = x.shape[-1]
    mirrored = np.concatenate((x, x[..., ::-1]), axis=-1)
    f = np.fft.rfftfreq(2 * length, 1 / fs)
    gain = 1 / np.sqrt(1 + (f / high) ** 8)
    if low > 0:
        gain *= f**2 / np.sqrt(f**4 + low**4)
    return np.fft.irfft(np.fft.rfft(mirrored) * gain, n=2 * length)[..., :length]


def _check(x: object, fs: float, leads: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    if hasattr(x, "detach"):
        x = x.detach().cpu().numpy()
    array = np.asarray(x)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"ecg_sheet: x must be numbers in mV, got {array.dtype}")
    if array.ndim != 2 or array.shape[0] != len(leads) or array.shape[1] < 2:
        raise ValueError(
            f"ecg_sheet: x must have shape ({len(leads)}, L) to go with its leads, got"
            f" {array.shape}"
        )
    if not (np.isfinite(fs) and fs > 0):
        raise ValueError(f"ecg_sheet: fs must be a positive number of Hz, got {fs!r}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise DataError(
            f"ecg_sheet: x holds NaN or infinite values (first: lead {leads[row]}, sample {column})"
        )
    known = {lead.upper(): lead for lead in LEADS}
    names = tuple(known.get(name.upper(), name) for name in leads)
    if len(set(names)) != len(names):
        raise ValueError(f"ecg_sheet: leads must differ, got {', '.join(leads)}")
    return array, names


def _arrange(
    traces: dict[str, np.ndarray], fs: float, duration: float, layout: str | None, cabrera: bool
) -> tuple[list[list[_Cell]], float, float]:
    """Rows of cells, the least distance of rows, and the seconds per column."""
    twelve = set(traces) == set(LEADS)
    if layout is not None and layout not in _LAYOUTS:
        raise ValueError(f"ecg_sheet: layout must be {', '.join(_LAYOUTS)}, got {layout!r}")
    if not twelve:
        if layout is not None or cabrera:
            raise ValueError(
                f"ecg_sheet: layout and cabrera need the twelve leads, got {', '.join(traces)}"
            )
        order: tuple[str, ...] = tuple(traces)
        columns, seconds, spacing, rhythm = 1, _LONGEST, 20.0, False
    else:
        columns, seconds, spacing, rhythm = _LAYOUTS[layout or "3x4"]
        order = (*_CABRERA, *LEADS[6:]) if cabrera else LEADS
        traces = traces | {"-aVR": -traces["aVR"]}
    # A record that is too short to be laid out in turn shows its first seconds in every column.
    in_turn = duration >= _LONGEST - 1 / fs
    seconds = min(seconds, duration)
    samples = max(2, round(seconds * fs))
    count = -(-len(order) // columns)
    rows = []
    for r in range(count):
        row = []
        for c in range(columns):
            start = c * samples if in_turn else 0
            trace = traces[order[c * count + r]][start : start + samples]
            row.append(_Cell(order[c * count + r], c * seconds * MM_PER_SECOND, trace))
        rows.append(row)
    if rhythm:
        rows.append([_Cell("II", 0.0, traces["II"][: round(_LONGEST * fs)])])
    return rows, spacing, seconds


def _baselines(
    rows: list[list[_Cell]], fs: float, spacing: float, fill: float
) -> tuple[np.ndarray, float]:
    """Heights of the rows' lines below the paper's upper edge, and the paper's height; multiples of
    5 mm.

    Rows keep their least distance, or more where their traces would cross.
    """
    above, below = zip(*(_extent(row, fs) for row in rows), strict=True)
    need = [
        max(spacing, float((low + high).max()) + 2.0)
        for low, high in zip(below[:-1], above[1:], strict=True)
    ]
    gaps = [5 * np.ceil(min(gap, 70.0) / 5) for gap in need]
    top = 5 * np.ceil(max(20.0, above[0].max() + 7.0) / 5)
    bottom = 5 * np.ceil(max(15.0, below[-1].max() + 5.0) / 5)
    # Room to spare goes around the rows in turn.
    turn = 0
    while top + sum(gaps) + bottom < fill:
        if turn % (len(gaps) + 2) == len(gaps) + 1:
            top += 5
        elif turn % (len(gaps) + 2) == len(gaps):
            bottom += 5
        else:
            gaps[turn % (len(gaps) + 2)] += 5
        turn += 1
    lines = top + np.concatenate(([0.0], np.cumsum(gaps)))
    return lines, float(lines[-1] + bottom)


def _extent(row: list[_Cell], fs: float) -> tuple[np.ndarray, np.ndarray]:
    """How far a row reaches above and below its line, in mm, by strips of 4 mm along the paper."""
    strips = int(np.ceil(_LONGEST * MM_PER_SECOND / 4)) + 2
    above, below = np.zeros((2, strips))
    for cell in row:
        at = ((cell.left + np.arange(len(cell.trace)) / fs * MM_PER_SECOND) // 4).astype(int)
        np.maximum.at(above, at, cell.trace)
        np.maximum.at(below, at, -cell.trace)
        above[at[0] : at[0] + 3] = np.maximum(above[at[0] : at[0] + 3], _label_height(cell, fs) + 4)
    wide = [np.maximum(v, np.maximum(np.roll(v, 1), np.roll(v, -1))) for v in (above, below)]
    return wide[0], wide[1]


def _label_height(cell: _Cell, fs: float) -> float:
    """Height of a lead's name over its line: just above whatever the trace does beside it."""
    beside = cell.trace[: max(2, round(10.0 / MM_PER_SECOND * fs))]
    return max(5.0, float(beside.max()) + 1.5)


def _paper(page: Page, width: float, height: float) -> None:
    page.box(0, 0, page.width, page.height, "#ffffff")
    page.box(_MARGIN, _HEAD, width, height, _PAPER)
    x0, x1, y0, y1 = _MARGIN, _MARGIN + width, _HEAD, _HEAD + height
    for step, colour, pen in ((1.0, _SMALL, 0.12), (5.0, _LARGE, 0.2)):
        xs = np.arange(x0, x1 + step / 2, step)
        ys = np.arange(y0, y1 + step / 2, step)
        if step == 1.0:  # not again where a bold line comes
            xs, ys = xs[np.arange(len(xs)) % 5 > 0], ys[np.arange(len(ys)) % 5 > 0]
        lines = [np.array([(x, y0), (x, y1)]) for x in xs]
        lines += [np.array([(x0, y), (x1, y)]) for y in ys]
        page.path(lines, colour, pen)


def _draw_row(page: Page, row: list[_Cell], y: float, fs: float) -> None:
    pulse = np.array([(1.5, 0), (2.5, 0), (2.5, 10), (7.5, 10), (7.5, 0), (8.5, 0)])
    page.path([np.array((_MARGIN, y)) + pulse * (1, -1)], _INK, 0.25)
    start = _MARGIN + _LEAD_IN
    for cell in row:
        x = start + cell.left + np.arange(len(cell.trace)) / fs * MM_PER_SECOND
        page.path([np.column_stack((x, y - cell.trace))], _INK, 0.3)
        if cell.left > 0:
            page.line(start + cell.left, y - 3, start + cell.left, y + 3, _INK, 0.2)
    for cell in row:
        height = _label_height(cell, fs)
        page.words(
            start + cell.left + 1.0, y - height, cell.name, 3.8, colour=_INK, bold=True, halo=True
        )


def _write_margins(page: Page, title: str, synthetic: bool, legend: list[str]) -> None:
    right = page.width - _MARGIN
    if title:
        room = right - _MARGIN - (text_width(WARNING, 4.4) + 6 if synthetic else 0)
        size, text = _fitted(title, 5.0, room)
        page.words(_MARGIN, _HEAD - 5, text, size, colour=_INK, bold=True)
    if synthetic:
        page.words(right, _HEAD - 5, WARNING, 4.4, colour=_ALERT, anchor="end", bold=True)
    page.words(_MARGIN, page.height - _FOOT + 5.5, legend[0], 3.6, colour=_INK)
    page.words(
        right, page.height - _FOOT + 5.5, ", ".join(legend[1:]), 3.2, colour=_GREY, anchor="end"
    )


def _fitted(text: str, size: float, room: float) -> tuple[float, str]:
    """A text small enough for ``room`` mm; below 3.2 mm it is cut short instead."""
    size = max(3.2, min(size, size * room / max(text_width(text, size), 1e-9)))
    if text_width(text, size) <= room:
        return size, text
    while text and text_width(text + "...", size) > room:
        text = text[:-1]
    return size, text + "..."


def _legend(
    fs: float,
    duration: float,
    band: tuple[float, float] | None,
    columns: int,
    seconds: float,
    cut: bool,
) -> list[str]:
    span = "unfiltered" if band is None else f"{band[0]:g}-{min(band[1], fs / 2):g} Hz"
    notes = [f"{MM_PER_SECOND:g} mm/s {MM_PER_MV:g} mm/mV {span}", f"{duration:.4g} s at {fs:g} Hz"]
    if duration > _LONGEST + 1 / fs:
        notes[1] = f"first {_LONGEST:g} s of {notes[1]}"
    elif duration < _LONGEST - 1 / fs and columns > 1:
        notes.append(f"the same {seconds:.4g} s in every column")
    if cut:
        notes.append(f"cut at {_LIMIT_MV:g} mV")
    return notes

"""Small line charts: power spectra and training loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ecgcore.data.quality import welch
from ecgcore.errors import DataError
from ecgcore.report.page import Page, text_width

# Told apart by lightness as well as hue, so in grey and by colour-blind readers too.
COLOURS: tuple[str, ...] = ("#20242c", "#c2410c", "#2b6cb0", "#7c9a2e", "#8d5aa8", "#b08a2e")

_TEXT = "#333840"
_GRID = "#e3e5e9"
_AXIS = "#8a9099"
_SIZE = 3.2


@dataclass(frozen=True)
class Series:
    """One curve: ``x`` and ``y`` of the same length; no name, no place in the legend; ``faint``
    ones lie behind.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    colour: str
    faint: bool = False


def spectra_svg(
    groups: Mapping[str, np.ndarray],
    fs: float,
    *,
    title: str = "Power spectral density",
    width: float = 125.0,
    height: float = 75.0,
) -> str:
    """Average spectra of groups of signals, in dB over 0..50 Hz, as an SVG element.

    ``groups`` maps a name to signals ``(n, leads, L)`` in mV at ``fs`` Hz, array or tensor. Welch's
    method with 128 samples, averaged over records and leads before the logarithm; 0 dB is 1
    mV^2/Hz. ``width`` and ``height`` in mm.
    """
    if not groups:
        raise ValueError("spectra_svg: no group of signals")
    series = []
    for i, (name, signals) in enumerate(groups.items()):
        array = np.asarray(signals, dtype=np.float64)
        if array.ndim != 3 or 0 in array.shape:
            raise ValueError(
                f"spectra_svg: {name} must have shape (n, leads, L), got {array.shape}"
            )
        if not np.isfinite(array).all():
            raise DataError(f"spectra_svg: {name} holds NaN or infinite values")
        f, density = welch(array, fs)
        shown = (f > 0) & (f <= 50)
        level = 10 * np.log10(density.mean(axis=(0, 1))[shown] + 1e-12)
        series.append(Series(name, f[shown], level, COLOURS[i % len(COLOURS)]))
    page = line_chart(
        series,
        title=title,
        x_label="Frequency (Hz)",
        y_label="dB re 1 mV²/Hz",
        width=width,
        height=height,
    )
    return page.to_svg()


def loss_svg(
    steps: Sequence[float] | np.ndarray,
    losses: Sequence[float] | np.ndarray,
    *,
    title: str = "Training loss",
    smooth: int | None = None,
    width: float = 125.0,
    height: float = 75.0,
) -> str:
    """A training loss over steps on a logarithmic scale, as an SVG element.

    The values themselves are drawn faintly, their running mean over ``smooth`` values (default: a
    fiftieth of them) boldly. Values that are not positive and finite are left out and counted in
    the legend.
    """
    x = np.asarray(steps, dtype=np.float64)
    y = np.asarray(losses, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"loss_svg: steps and losses must match, got {x.shape} and {y.shape}")
    usable = np.isfinite(x) & np.isfinite(y) & (y > 0)
    if not usable.any():
        raise DataError(f"loss_svg: none of the {len(y)} losses is positive and finite")
    lost = int((~usable).sum())
    x, y = x[usable], y[usable]
    span = max(1, min(len(y), smooth if smooth is not None else round(len(y) / 50)))
    weight = np.convolve(np.ones(len(y)), np.ones(span), mode="same")
    mean = np.convolve(y, np.ones(span), mode="same") / weight
    name = "loss" if span == 1 else f"mean of {span} values"
    if lost:
        name += f" ({lost} not finite left out)"
    series = [Series(name, *_envelope(x, mean), COLOURS[1])]
    if span > 1:
        series.insert(0, Series("", *_envelope(x, y), "#f2c4ab", faint=True))
    page = line_chart(
        series,
        title=title,
        x_label="Step",
        y_label="Mean squared error",
        log_y=True,
        width=width,
        height=height,
    )
    return page.to_svg()


def line_chart(
    series: Sequence[Series],
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    log_y: bool = False,
    width: float = 125.0,
    height: float = 75.0,
) -> Page:
    """Curves over common axes, with a legend above them."""
    x_low, x_high = _range([s.x for s in series], pad=0.0)
    values = [np.log10(s.y) if log_y else s.y for s in series]
    y_low, y_high = _range(values, pad=0.04)
    left, right = 17.0, width - 4.0
    legend = _legend_rows([s for s in series if s.name], right - 8 - text_width(y_label, _SIZE))
    first = 12.8 if title else 6.8
    top, bottom = first + 3.2 + 5.0 * (len(legend) - 1), height - 12.0

    def px(x: np.ndarray) -> np.ndarray:
        return left + (np.asarray(x) - x_low) / (x_high - x_low) * (right - left)

    def py(y: np.ndarray) -> np.ndarray:
        return bottom - (np.asarray(y) - y_low) / (y_high - y_low) * (bottom - top)

    page = Page(width, height, title=title)
    if title:
        page.words(left, 6.0, title, 4.0, colour=_TEXT, bold=True)
    ticks = _log_ticks(y_low, y_high) if log_y else _ticks(y_low, y_high, 5)
    for value, label in ticks:
        y = float(py(np.array(value)))
        page.line(left, y, right, y, _GRID, 0.15)
        page.words(left - 1.5, y + 1.1, label, _SIZE, colour=_TEXT, anchor="end")
    for value, label in _ticks(x_low, x_high, 6):
        x = float(px(np.array(value)))
        page.line(x, bottom, x, bottom + 1.2, _AXIS, 0.2)
        page.words(x, bottom + 4.8, label, _SIZE, colour=_TEXT, anchor="middle")
    page.line(left, bottom, right, bottom, _AXIS, 0.25)
    page.words((left + right) / 2, height - 2.0, x_label, _SIZE, colour=_TEXT, anchor="middle")
    page.words(1.5, first, y_label, _SIZE, colour=_TEXT)

    for s, height_of in zip(series, values, strict=True):
        points = np.column_stack((px(s.x), py(height_of)))
        page.path([points], s.colour, 0.25 if s.faint else 0.5)
    for i, row in enumerate(legend):
        start = right - sum(map(_entry_width, row)) + 4
        y = first + 5.0 * i
        for entry in row:
            page.line(start, y - 1.1, start + 5, y - 1.1, entry.colour, 0.8)
            page.words(start + 6.5, y, entry.name, _SIZE, colour=_TEXT)
            start += _entry_width(entry)
    return page


def _entry_width(series: Series) -> float:
    return 6.5 + text_width(series.name, _SIZE) + 4.0


def _legend_rows(series: list[Series], width: float) -> list[list[Series]]:
    rows: list[list[Series]] = [[]]
    for s in series:
        if rows[-1] and sum(map(_entry_width, [*rows[-1], s])) > width:
            rows.append([])
        rows[-1].append(s)
    return rows


def _range(values: list[np.ndarray], pad: float) -> tuple[float, float]:
    low = min(float(v.min()) for v in values)
    high = max(float(v.max()) for v in values)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    return low - pad * (high - low), high + pad * (high - low)


def _ticks(low: float, high: float, about: int) -> list[tuple[float, str]]:
    """Round values with their labels, at steps of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / about
    power = 10.0 ** np.floor(np.log10(raw))
    step = power * min((m for m in (1, 2, 5, 10) if m * power >= raw * 0.999), default=10)
    values = np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step
    return [(float(v), f"{v + 0.0:,.10g}".replace(",", "\u202f")) for v in values]


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Ticks of a decimal logarithm: as many of 1, 2, 5 per decade as make three to eight."""
    for digits in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10))):
        ticks = [
            (float(np.log10(d) + e), f"{d * 10.0**e:.3g}")
            for e in range(int(np.floor(low)), int(np.ceil(high)) + 1)
            for d in digits
            if low <= np.log10(d) + e <= high
        ]
        if len(ticks) >= 3:
            return ticks
    return [(v, f"{10**v:.3g}") for v in (low, (low + high) / 2, high)]


def _envelope(x: np.ndarray, y: np.ndarray, columns: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """A curve of many points by the lowest and highest of each column, which look the same on
    paper.
    """
    if len(x) <= 2 * columns:
        return x, y
    edges = np.linspace(0, len(x), columns + 1).astype(int)
    pick = []
    for a, b in pairwise(edges):
        pick += sorted({a + int(y[a:b].argmin()), a + int(y[a:b].argmax())})
    return x[pick], y[pick]

"""A page measured in millimetres: lines, boxes and words, written as SVG, PNG or PDF.

Sheets and charts describe themselves with these few marks only, so that every format shows the same
picture. SVG is written here (small, no dependency); matplotlib draws the others and is imported
when it is needed, on its Agg and PDF canvases, without pyplot or any global state.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np

from ecgcore.data.files import write_file

FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"
PIXELS_PER_MM = 6  # 152.4 dpi: whole pixels per millimetre keep a grid even
_POINTS_PER_MM = 72 / 25.4


@dataclass(frozen=True)
class Pen:
    """Open polylines drawn with one pen: a list of ``(n, 2)`` points in mm."""

    lines: list[np.ndarray]
    colour: str
    width: float
    dash: tuple[float, float] | None = None


@dataclass(frozen=True)
class Box:
    x: float
    y: float
    width: float
    height: float
    fill: str


@dataclass(frozen=True)
class Words:
    """Text with its baseline at ``(x, y)``; ``size`` is the font size in mm; ``anchor`` start,
    middle or end.
    """

    x: float
    y: float
    text: str
    size: float
    colour: str
    anchor: str
    bold: bool
    halo: bool


@dataclass
class Page:
    """``width`` by ``height`` mm, origin at the top left, y downwards; marks are drawn in the order
    given.
    """

    width: float
    height: float
    title: str = ""
    marks: list[Pen | Box | Words] = field(default_factory=list)

    def path(
        self,
        lines: list[np.ndarray],
        colour: str,
        width: float,
        dash: tuple[float, float] | None = None,
    ) -> None:
        self.marks.append(Pen(lines, colour, width, dash))

    def line(self, x0: float, y0: float, x1: float, y1: float, colour: str, width: float) -> None:
        self.path([np.array([(x0, y0), (x1, y1)])], colour, width)

    def box(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        self.marks.append(Box(x, y, width, height, fill))

    def words(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        *,
        colour: str = "#1a1a1a",
        anchor: str = "start",
        bold: bool = False,
        halo: bool = False,
    ) -> None:
        self.marks.append(Words(x, y, text, size, colour, anchor, bold, halo))

    def to_svg(self) -> str:
        """The page as an SVG element of its true size, fit for a file or for inlining in HTML."""
        w, h = _number(self.width), _number(self.height)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}mm" height="{h}mm"'
            f' viewBox="0 0 {w} {h}" font-family="{FONT}" role="img">'
        ]
        if self.title:
            parts.append(f"<title>{escape(self.title)}</title>")
        parts.extend(_svg_mark(mark) for mark in self.marks)
        parts.append("</svg>\n")
        return "\n".join(parts)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page as the suffix says: ``.svg``, ``.png`` (152 dpi) or ``.pdf``."""
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in {".svg", ".png", ".pdf"}:
            raise ValueError(f"{path}: pictures are written as .svg, .png or .pdf")
        data = self.to_svg().encode() if suffix == ".svg" else self._render(suffix[1:])
        write_file(path, data)
        return path

    def _render(self, kind: str) -> bytes:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.backends.backend_pdf import FigureCanvasPdf
        from matplotlib.collections import LineCollection
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle
        from matplotlib.patheffects import withStroke

        figure = Figure(figsize=(self.width / 25.4, self.height / 25.4), dpi=25.4 * PIXELS_PER_MM)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(0, self.width)
        axes.set_ylim(self.height, 0)
        axes.set_axis_off()
        for order, mark in enumerate(self.marks):
            if isinstance(mark, Box):
                axes.add_patch(
                    Rectangle(
                        (mark.x, mark.y),
                        mark.width,
                        mark.height,
                        facecolor=mark.fill,
                        edgecolor="none",
                        zorder=order,
                    )
                )
            elif isinstance(mark, Pen):
                style = "solid"
                if mark.dash is not None:
                    style = (0, tuple(d / mark.width for d in mark.dash))  # type: ignore[assignment]
                axes.add_collection(
                    LineCollection(
                        mark.lines,
                        colors=mark.colour,
                        linewidths=mark.width * _POINTS_PER_MM,
                        linestyles=style,
                        capstyle="round" if mark.dash is None else "butt",
                        joinstyle="round",
                        zorder=order,
                    ),
                    autolim=False,
                )
            else:
                size = mark.size * _POINTS_PER_MM
                halo = [withStroke(linewidth=0.3 * size, foreground="white")] if mark.halo else None
                axes.text(
                    mark.x,
                    mark.y,
                    mark.text,
                    fontsize=0.92 * size,  # DejaVu Sans runs wider than Helvetica
                    family="DejaVu Sans",
                    fontweight="bold" if mark.bold else "normal",
                    color=mark.colour,
                    ha={"start": "left", "middle": "center", "end": "right"}[mark.anchor],
                    va="baseline",
                    parse_math=False,
                    path_effects=halo,
                    zorder=order,
                )
        stream = io.BytesIO()
        if kind == "png":
            FigureCanvasAgg(figure).print_png(stream, metadata={"Title": self.title})
        else:
            FigureCanvasPdf(figure).print_pdf(stream, metadata={"Title": self.title})
        return stream.getvalue()


def text_width(text: str, size: float) -> float:
    """About the width in mm of a text of font size ``size``, a little generous."""
    narrow, wide = " .,:;'()|ijl", "mwMW"
    return size * sum(0.3 if c in narrow else 0.85 if c in wide else 0.57 for c in text)


def _svg_mark(mark: Pen | Box | Words) -> str:
    if isinstance(mark, Box):
        return (
            f'<rect x="{_number(mark.x)}" y="{_number(mark.y)}" width="{_number(mark.width)}"'
            f' height="{_number(mark.height)}" fill="{mark.fill}"/>'
        )
    if isinstance(mark, Pen):
        data = "".join(_svg_line(line) for line in mark.lines)
        dash = ""
        if mark.dash is not None:
            dash = f' stroke-dasharray="{_number(mark.dash[0])} {_number(mark.dash[1])}"'
        return (
            f'<path d="{data}" fill="none" stroke="{mark.colour}"'
            f' stroke-width="{_number(mark.width)}" stroke-linejoin="round"'
            f' stroke-linecap="{"butt" if mark.dash else "round"}"{dash}/>'
        )
    style = "" if mark.anchor == "start" else f' text-anchor="{mark.anchor}"'
    if mark.bold:
        style += ' font-weight="bold"'
    if mark.halo:
        style += (
            f' stroke="#fff" stroke-width="{_number(0.3 * mark.size)}" stroke-linejoin="round"'
            ' paint-order="stroke"'
        )
    return (
        f'<text x="{_number(mark.x)}" y="{_number(mark.y)}" font-size="{_number(mark.size)}"'
        f' fill="{mark.colour}"{style}>{escape(mark.text)}</text>'
    )


def _svg_line(points: np.ndarray) -> str:
    """Path data to a hundredth of a millimetre, as steps from point to point; steps of zero are
    left out.
    """
    rounded = np.rint(_thin(np.asarray(points, dtype=np.float64)) * 100).astype(np.int64)
    steps = np.diff(rounded, axis=0)
    steps = steps[(steps != 0).any(axis=1)]
    start = f"M{_number(rounded[0, 0] / 100)} {_number(rounded[0, 1] / 100)}"
    if len(steps) == 0:
        return start + "h0"
    if not steps[:, 1].any():
        return start + "h" + _number(steps[:, 0].sum() / 100)
    if not steps[:, 0].any() and len(steps) == 1:
        return start + "v" + _number(steps[0, 1] / 100)
    return start + "l" + " ".join(f"{_number(x / 100)} {_number(y / 100)}" for x, y in steps)


def _thin(points: np.ndarray, tolerance: float = 0.005) -> np.ndarray:
    """Leave out points on the straight way between their neighbours, every second one at a time."""
    for _ in range(4):
        if len(points) < 3:
            break
        before, here, after = points[0:-2:2], points[1:-1:2], points[2::2]
        chord = after - before
        off = here - before
        length = np.hypot(chord[:, 0], chord[:, 1])
        away = np.abs(chord[:, 0] * off[:, 1] - chord[:, 1] * off[:, 0])
        keep = np.ones(len(points), bool)
        keep[1:-1:2] = (away > tolerance * length) | (length == 0)
        points = points[keep]
    return points


def _number(value: float) -> str:
    """At most three decimals, no trailing or leading zeros."""
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    if text in {"-0", ""}:
        return "0"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text

"""Reports in one HTML file: no scripts, no fonts, no links to anywhere."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from ecgcore.data.files import write_file
from ecgcore.report.sheet import WARNING


@dataclass(frozen=True)
class Figure:
    """An SVG element with a caption."""

    svg: str
    caption: str = ""


@dataclass(frozen=True)
class Row:
    """Figures side by side; on narrow screens one below the other."""

    figures: Sequence[Figure]


@dataclass(frozen=True)
class Table:
    """Cells are shown as they are, floats with four digits, ``None`` as a dash."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""


Block = str | Figure | Row | Table


@dataclass(frozen=True)
class Section:
    """A heading and what follows it: paragraphs (plain text), figures, rows of figures, tables."""

    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)


def html_report(
    path: str | os.PathLike[str],
    sections: Iterable[Section],
    *,
    title: str = "ECG report",
    lead: str = "",
    synthetic: bool = True,
) -> Path:
    """Write a self-contained page.

    Args:
        path: file to write, replaced in one go.
        sections: what to show, in order. All text is escaped; SVG goes in as it is.
        title: heading of the page.
        lead: a paragraph under it.
        synthetic: say ``SYNTHETIC - not for diagnosis`` at the top.

    Returns:
        The path.
    """
    parts = [f"<h1>{escape(title)}</h1>"]
    if synthetic:
        parts.append(f'<p class="warning">{WARNING}</p>')
    if lead:
        parts.append(f'<p class="lead">{escape(lead)}</p>')
    for section in sections:
        if not isinstance(section, Section):
            raise TypeError(f"html_report: expected a Section, got {type(section).__name__}")
        parts.append(f"<section>\n<h2>{escape(section.title)}</h2>")
        parts.extend(_block(block) for block in section.blocks)
        parts.append("</section>")
    text = _PAGE.format(title=escape(title), style=_STYLE, body="\n".join(parts))
    path = Path(path)
    write_file(path, text.encode())
    return path


def _block(block: Block) -> str:
    if isinstance(block, str):
        return f"<p>{escape(block)}</p>"
    if isinstance(block, Figure):
        return _figure(block)
    if isinstance(block, Row):
        return '<div class="row">\n' + "\n".join(_figure(f) for f in block.figures) + "\n</div>"
    if isinstance(block, Table):
        return _table(block)
    raise TypeError(
        f"html_report: a block must be text, Figure, Row or Table, got {type(block).__name__}"
    )


def _figure(figure: Figure) -> str:
    if not isinstance(figure, Figure):
        raise TypeError(f"html_report: expected a Figure, got {type(figure).__name__}")
    if not figure.svg.lstrip().startswith("<svg"):
        raise ValueError("html_report: a Figure holds an SVG element, starting with <svg")
    caption = f"<figcaption>{escape(figure.caption)}</figcaption>" if figure.caption else ""
    return f"<figure>\n{figure.svg.strip()}\n{caption}</figure>"


def _table(table: Table) -> str:
    for row in table.rows:
        if len(row) != len(table.columns):
            raise ValueError(
                f"html_report: a row of {len(row)} cells in a table of {len(table.columns)} columns"
            )
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    body = "\n".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in table.rows)
    return (
        f'<div class="table"><table>{caption}<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return f"<td>{'yes' if value else 'no'}</td>"
    if value is None:
        return '<td class="number">-</td>'
    if isinstance(value, int):
        return f'<td class="number">{value}</td>'
    if isinstance(value, float):
        return f'<td class="number">{value:.4g}</td>'
    return f"<td>{escape(str(value))}</td>"


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #f6f6f4; color: #20242c; line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 0 0 .75rem; }
p { max-width: 46rem; margin: .5rem 0 1rem; }
.lead { font-size: 1.1rem; color: #4a505a; }
.warning { display: inline-block; margin: .25rem 0 .75rem; padding: .15rem .6rem; border-radius:
3px;
  background: #b3001b; color: #fff; font-weight: 600; font-size: .9rem; }
section { margin: 2.5rem 0 0; padding-top: 1.5rem; border-top: 1px solid #dcdcd8; }
figure { margin: 1rem 0; padding: .75rem; background: #fff; border: 1px solid #e2e2de;
  border-radius: 6px; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { margin-top: .5rem; font-size: .9rem; color: #4a505a; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr));
  gap: 1rem; align-items: start; }
.row figure { margin: 0; }
.row { margin: 1rem 0; }
.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; background: #fff; font-size: .95rem; }
caption { text-align: left; padding: 0 0 .4rem; color: #4a505a; font-size: .9rem; }
th, td { padding: .4rem .8rem; border-bottom: 1px solid #e6e6e2; text-align: left; }
th { border-bottom: 2px solid #c9c9c4; font-weight: 600; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
@media print { body { background: #fff; } figure, tr { break-inside: avoid; }
  main { max-width: none; padding: 0; } }
"""

"""Reports: one file, nothing from outside, nothing unescaped."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

from ecgcore.data import simulate
from ecgcore.report import Figure, Row, Section, Table, html_report, loss_svg, sheet_svg

VOID = {"meta", "br", "img", "link", "path", "rect"}


class Reader(HTMLParser):
    """Tags in order, checked for balance, and the text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.attributes = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def report(tmp_path):
    x, _ = simulate(2, 0)
    figures = [Figure(loss_svg([1, 2], [1.0, 0.5])), Figure(sheet_svg(x[1], 100))]
    rows = [["rate", 72.12345], ["n", 3], ["ok", True], ["none", None], ["<i>", np.float64(0.5)]]
    sections = [
        Section(
            "Signals <b>",
            ["A & B <script>alert(1)</script>", Figure(sheet_svg(x[0], 100), "One & only")],
        ),
        Section("Numbers", [Row(figures), Table(["what", "value"], rows, "Table <1>")]),
    ]
    path = html_report(tmp_path / "a" / "report.html", sections, title="T & T", lead="lead > all")
    return path.read_text(encoding="utf-8")


def test_page_is_well_formed_and_complete(report):
    reader = Reader(report)
    assert reader.tags.count("svg") == 3
    assert reader.tags.count("h2") == reader.tags.count("section") == 2
    assert reader.tags.count("figcaption") == 1
    text = "".join(reader.text)
    for part in ("T & T", "lead > all", "Signals <b>", "<script>alert(1)</script>", "One & only"):
        assert part in text
    assert [t for t in reader.text if t in {"72.12", "3", "yes", "-", "0.5"}][-5:] == [
        "72.12",
        "3",
        "yes",
        "-",
        "0.5",
    ]


def test_page_is_self_contained(report):
    reader = Reader(report)
    assert not {"script", "link", "img", "iframe", "object", "embed", "a"} & set(reader.tags)
    assert not {"src", "href", "xlink:href", "onclick", "onload"} & {
        name for name, _ in reader.attributes
    }
    assert "url(" not in report
    assert "@import" not in report
    addresses = {value for _, value in reader.attributes if value and "://" in value}
    assert addresses == {"http://www.w3.org/2000/svg"}


def test_warning_can_be_left_out_for_recorded_data_only(tmp_path, report):
    assert "SYNTHETIC - not for diagnosis" in report
    path = html_report(tmp_path / "r.html", [Section("A", ["b"])], synthetic=False)
    assert "SYNTHETIC" not in path.read_text()
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["r.html"]


@pytest.mark.parametrize(
    ("section", "error", "message"),
    [
        ("text", TypeError, "expected a Section, got str"),
        (Section("A", [3]), TypeError, "a block must be text, Figure, Row or Table, got int"),
        (Section("A", [Figure("picture.png")]), ValueError, "holds an SVG element"),
        (Section("A", [Row(["<svg/>"])]), TypeError, "expected a Figure, got str"),
        (
            Section("A", [Table(["a"], [[1, 2]])]),
            ValueError,
            "a row of 2 cells in a table of 1 columns",
        ),
    ],
)
def test_bad_blocks_are_named_and_nothing_is_written(tmp_path, section, error, message):
    with pytest.raises(error, match=message):
        html_report(tmp_path / "r.html", [section])
    assert list(tmp_path.iterdir()) == []

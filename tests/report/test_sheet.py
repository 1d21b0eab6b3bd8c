"""ECG sheets: true millimetres, leads where a reader looks for them, honest words around."""

from __future__ import annotations

import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from ecgcore.data import BASES, LEADS, simulate, to_eight_leads
from ecgcore.errors import DataError
from ecgcore.report import ecg_sheet, sheet_svg
from ecgcore.report.page import PIXELS_PER_MM, text_width
from ecgcore.report.sheet import WARNING, display_filter, sheet_page

SVG = "{http://www.w3.org/2000/svg}"
INK = "#111111"


@pytest.fixture(scope="module")
def record():
    return simulate(4, 0)[0][3].numpy()  # NORM


def polylines(svg, width=".3"):
    """Points in mm of every ink line of one pen width, in drawing order."""
    lines = []
    for path in ElementTree.fromstring(svg).iter(f"{SVG}path"):
        if path.get("stroke") == INK and path.get("stroke-width") == width:
            start, steps = re.fullmatch(r"M([-.\d ]+)l([-.\d ]+)", path.get("d")).groups()
            points = np.array([start.split(), *np.reshape(steps.split(), (-1, 2))], float)
            lines.append(np.cumsum(points, axis=0))
    return lines


def words(svg):
    return ["".join(t.itertext()) for t in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def value(line, mm):
    return np.interp(mm, line[:, 0], line[:, 1])


def test_traces_are_true_to_scale(record):
    """25 mm/s and 10 mm/mV: the drawn points are the samples."""
    lines = polylines(sheet_svg(record, 100, band=None))
    assert len(lines) == 13
    centred = record - np.median(record, axis=-1, keepdims=True)
    shown = [(LEADS[c * 3 + r], c) for r in range(3) for c in range(4)]
    for line, (lead, column) in zip(lines, shown, strict=False):
        samples = centred[LEADS.index(lead), 250 * column : 250 * column + 250]
        x = line[0, 0] + 0.25 * np.arange(250)
        baseline = line[0, 1] + 10 * samples[0]
        assert abs(line[-1, 0] - x[-1]) < 0.02
        np.testing.assert_allclose(value(line, x), baseline - 10 * samples, atol=0.05)
    # Columns follow one another, rows are aligned, and the strip below holds all ten seconds of II.
    starts = np.array([line[0, 0] for line in lines[:12]]).reshape(3, 4)
    np.testing.assert_allclose(starts, np.tile(starts[0, 0] + 62.5 * np.arange(4), (3, 1)))
    rhythm = lines[12]
    assert abs(rhythm[-1, 0] - rhythm[0, 0] - 249.75) < 0.02
    samples = centred[1]
    np.testing.assert_allclose(
        value(rhythm, rhythm[0, 0] + 0.25 * np.arange(1000)),
        rhythm[0, 1] + 10 * (samples[0] - samples),
        atol=0.05,
    )


def test_grid_and_calibration_pulses(record):
    page = sheet_page(record, 100)
    small, large = (
        mark for mark in page.marks if getattr(mark, "lines", None) and len(mark.lines) > 20
    )
    for pen, step in ((small, 1.0), (large, 5.0)):
        upright = sorted(line[0, 0] for line in pen.lines if line[0, 0] == line[1, 0])
        gaps = np.diff(upright)
        assert np.allclose(gaps[gaps < 1.5 * step], step)
    assert len([line for line in large.lines if line[0, 0] == line[1, 0]]) == 54  # 265 mm
    pulses = [
        m.lines[0] for m in page.marks if getattr(m, "width", 0) == 0.25 and hasattr(m, "lines")
    ]
    assert len(pulses) == 4
    for pulse in pulses:
        assert np.ptp(pulse[:, 1]) == 10.0  # 1 mV
        assert pulse[3, 0] - pulse[2, 0] == 5.0  # 200 ms


def test_a_full_sheet_is_a4_and_says_what_it_is(record):
    svg = sheet_svg(record, 100, title="Record <1>")
    root = ElementTree.fromstring(svg)
    assert root.get("width") == "297mm"
    assert root.get("height") == "210mm"
    assert root.get("viewBox") == "0 0 297 210"
    text = words(svg)
    assert "25 mm/s 10 mm/mV 0.05-40 Hz" in text
    assert "10 s at 100 Hz" in text
    assert "Record <1>" in text
    assert WARNING in text
    assert [t for t in text if t in LEADS] == [
        LEADS[c * 3 + r] for r in range(3) for c in range(4)
    ] + ["II"]
    assert root.find(f"{SVG}title").text == "Record <1> - SYNTHETIC - not for diagnosis"
    real = sheet_svg(record, 100, synthetic=False, band=None)
    assert "SYNTHETIC" not in real
    assert "25 mm/s 10 mm/mV unfiltered" in words(real)
    assert len(svg) < 60_000


def test_long_titles_leave_room_for_the_warning(record):
    for title in ("A long title, " * 7, "A far too long title, " * 20):
        svg = sheet_svg(record, 100, title=title)
        texts = list(ElementTree.fromstring(svg).iter(f"{SVG}text"))
        drawn = next(t for t in texts if t.text.startswith("A "))
        warning = next(t for t in texts if t.text == WARNING)
        size = float(drawn.get("font-size"))
        assert 3.2 <= size < 5
        left = float(warning.get("x")) - text_width(WARNING, float(warning.get("font-size")))
        assert float(drawn.get("x")) + text_width(drawn.text, size) < left
    assert drawn.text.endswith("...")


def test_layouts_and_cabrera_order(record):
    names = [t for t in words(sheet_svg(record, 100, layout="12x1")) if t in LEADS]
    assert names == list(LEADS)
    assert len(polylines(sheet_svg(record, 100, layout="6x2"))) == 12
    svg = sheet_svg(record, 100, layout="6x2", cabrera=True, band=None)
    names = [t for t in words(svg) if t.lstrip("-") in LEADS]
    assert names[::2] == ["aVL", "I", "-aVR", "II", "aVF", "III"]
    assert names[1::2] == list(LEADS[6:])
    upside_down = polylines(svg)[4]  # third row, first column
    samples = record[3, :500] - np.median(record[3])
    drawn = value(upside_down, upside_down[0, 0] + 0.25 * np.arange(500))
    np.testing.assert_allclose(drawn - drawn[0], 10 * (samples - samples[0]), atol=0.05)


def test_short_and_long_records_say_so(record):
    svg = sheet_svg(record[:, :250], 100)
    assert "2.5 s at 100 Hz, the same 2.5 s in every column" in words(svg)
    lines = polylines(svg)
    assert all(abs(np.ptp(line[:, 0]) - 62.25) < 0.02 for line in lines)
    svg = sheet_svg(np.tile(record, 3), 100)
    assert "first 10 s of 30 s at 100 Hz" in words(svg)
    assert abs(np.ptp(polylines(svg)[-1][:, 0]) - 249.75) < 0.02
    assert sum(t in LEADS for t in words(sheet_svg(record[:, :2], 100))) == 13


def test_other_leads_stand_one_below_the_other(record):
    eight = to_eight_leads(record, order="ptbxl")
    names = words(sheet_svg(eight, 100, leads=BASES["I-aVF"]))
    assert [n for n in names if n in LEADS] == list(BASES["I-aVF"])
    names = words(sheet_svg(eight[:3], 100, leads=["ch0", "ch1", "ch2"]))
    assert names[-3:] == ["ch0", "ch1", "ch2"] or {"ch0", "ch1", "ch2"} <= set(names)
    upper = [name.upper() for name in LEADS]
    assert sheet_svg(record, 100, leads=upper) == sheet_svg(record, 100)
    order = [LEADS.index(lead) for lead in LEADS[::-1]]
    assert sheet_svg(record[order], 100, leads=LEADS[::-1]) == sheet_svg(record, 100)


@pytest.mark.parametrize("source", ["ptbxl_real_100hz", "simulated"])
@pytest.mark.parametrize("layout", ["3x4", "6x2", "12x1"])
def test_nothing_overlaps(shared, source, layout):
    """Names clear their own trace and the paper's edge; rows clear each other."""
    if source == "simulated":
        records = simulate(5, 1)[0].numpy()
    else:
        stored = np.load(shared / "data" / f"{source}.npz", allow_pickle=False)
        records = stored["x_uV"][::3] / 1000
    for x in records:
        page = sheet_page(x, 100, layout=layout)
        traces = [
            m.lines[0] for m in page.marks if getattr(m, "width", 0) == 0.3 and hasattr(m, "lines")
        ]
        names = [m for m in page.marks if getattr(m, "text", "") in LEADS]
        assert len(traces) == len(names)
        for name, trace in zip(names, traces, strict=True):
            beside = trace[trace[:, 0] < trace[0, 0] + 9]
            assert name.y < beside[:, 1].min()
            assert name.y - name.size > 17
        top, bottom = 17, page.height - 13
        for trace in traces:
            assert top < trace[:, 1].min()
            assert trace[:, 1].max() < bottom
        for i, upper in enumerate(traces):
            for lower in traces[i + 1 :]:
                if upper[0, 1] + 12 > lower[0, 1]:
                    continue  # same row
                shared_x = np.intersect1d(upper[:, 0].round(3), lower[:, 0].round(3))
                if len(shared_x):
                    assert (value(upper, shared_x) < value(lower, shared_x)).all()


def test_signals_beyond_the_paper_are_cut_and_said_so():
    svg = sheet_svg(100 * np.random.default_rng(0).standard_normal((12, 1000)), 100)
    assert "10 s at 100 Hz, cut at 6 mV" in words(svg)
    assert float(ElementTree.fromstring(svg).get("height")[:-2]) < 420


def test_png_has_the_size_and_colours_of_the_page(record, tmp_path):
    x = np.zeros((12, 1000))
    x[1, 500:510] = 1.0  # 1 mV in II at 5 s
    path = ecg_sheet(x, 100, tmp_path / "deep" / "sheet.png", title="Step", band=None)
    with Image.open(path) as image:
        assert image.size == (297 * PIXELS_PER_MM, 210 * PIXELS_PER_MM)
        assert image.info["dpi"] == pytest.approx((152.4, 152.4))
        assert image.info["Title"] == "Step - SYNTHETIC - not for diagnosis"
        pixels = np.asarray(image.convert("RGB")).astype(int)
    page = sheet_page(x, 100, title="Step", band=None)
    rhythm = [m.lines[0] for m in page.marks if getattr(m, "width", 0) == 0.3][-1]
    dark = (pixels < 90).all(-1)
    row = round((rhythm[0, 1] - 10) * PIXELS_PER_MM)
    columns = slice(
        round((rhythm[500, 0] + 0.5) * PIXELS_PER_MM), round((rhythm[509, 0] - 0.5) * PIXELS_PER_MM)
    )
    assert dark[row - 1 : row + 2, columns].any(0).all()
    # A column of paper away from traces: grid lines repeat with the millimetre.
    strip = pixels[29 * PIXELS_PER_MM : 39 * PIXELS_PER_MM, round(100.5 * PIXELS_PER_MM)]
    lines = np.flatnonzero(strip[:, 1] < 240)
    assert np.allclose(np.diff(np.unique(lines // PIXELS_PER_MM)), 1)


def test_suffix_chooses_the_format(record, tmp_path):
    assert ecg_sheet(record, 100, tmp_path / "a.svg").read_text() == sheet_svg(record, 100)
    assert (
        ecg_sheet(torch.from_numpy(record), 100, tmp_path / "a.PDF")
        .read_bytes()
        .startswith(b"%PDF")
    )
    with pytest.raises(ValueError, match=r"a\.jpg: pictures are written as \.svg, \.png or \.pdf"):
        ecg_sheet(record, 100, tmp_path / "a.jpg")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.PDF", "a.svg"]


def test_display_filter_keeps_the_band_and_halves_power_at_its_ends():
    t = np.arange(5000) / 500
    for frequency, gain in ((0.0, 0), (1.0, 1), (10.0, 1), (40.0, 0.5**0.5), (100.0, 0.03)):
        y = display_filter(np.cos(2 * np.pi * frequency * t)[None], 500, (0.05, 40.0))[0]
        assert np.sqrt(2 * np.mean(y[1000:4000] ** 2)) == pytest.approx(gain, abs=0.02)
    x = np.random.default_rng(0).standard_normal((1, 999))
    assert display_filter(x, 100, (0.05, 40.0)).shape == x.shape
    with pytest.raises(ValueError, match="two rising frequencies"):
        display_filter(x, 100, (40.0, 0.05))


def test_matplotlib_is_loaded_only_to_draw_and_pyplot_never(tmp_path):
    script = (
        "import sys, numpy as np; from ecgcore.report import ecg_sheet\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"ecg_sheet(np.zeros((12, 100)), 100, r'{tmp_path}/a.svg')\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"ecg_sheet(np.zeros((12, 100)), 100, r'{tmp_path}/a.png')\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"x": np.zeros((8, 100))},
            ValueError,
            r"x must have shape \(12, L\) to go with its leads, got \(8, 100\)",
        ),
        ({"x": np.zeros((1, 12, 100))}, ValueError, r"got \(1, 12, 100\)"),
        (
            {"x": np.full((12, 100), np.nan)},
            DataError,
            r"NaN or infinite values \(first: lead I, sample 0\)",
        ),
        ({"x": np.zeros((12, 100), complex)}, TypeError, "must be numbers in mV, got complex128"),
        ({"fs": 0}, ValueError, "fs must be a positive number of Hz, got 0"),
        ({"layout": "4x4"}, ValueError, "layout must be 3x4, 6x2, 12x1, got '4x4'"),
        ({"leads": ["I"] * 12}, ValueError, "leads must differ"),
        (
            {"x": np.zeros((2, 100)), "leads": ["I", "II"], "layout": "3x4"},
            ValueError,
            "need the twelve leads",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        sheet_svg(**{"x": np.zeros((12, 100)), "fs": 100} | arguments)

"""Pictures for people: ECG sheets on millimetre paper, small charts, and self-contained HTML
reports.
"""

from __future__ import annotations

from ecgcore.report.charts import loss_svg, spectra_svg
from ecgcore.report.html import Figure, Row, Section, Table, html_report
from ecgcore.report.sheet import ecg_sheet, sheet_svg

__all__ = [
    "Figure",
    "Row",
    "Section",
    "Table",
    "ecg_sheet",
    "html_report",
    "loss_svg",
    "sheet_svg",
    "spectra_svg",
]

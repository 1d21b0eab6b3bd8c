"""Pictures for people: ECG sheets on millimetre paper, small charts, and self-contained HTML
reports.
"""

from __future__ import annotations

from ecgcore.report.sheet import ecg_sheet, sheet_svg

__all__ = ["ecg_sheet", "sheet_svg"]

"""Picture of a benchmark: one bar per contender, one color per part of the model."""

from __future__ import annotations

from pathlib import Path

from qvggt.bench.report import BenchReport, BenchRow
from qvggt.export.sheet import FAINT, Sheet
from qvggt.types import PathLike

PARTS = {
    "patch embedding": "#6db3f2",
    "frame attention": "#79cf9b",
    "global attention": "#f0b35a",
    "camera head": "#f08fb0",
    "depth head": "#b197f0",
    "point head": "#5fd0d6",
    "other": "#9aa1ad",
}
_WIDTH, _LEFT, _RIGHT, _TOP, _BAR, _FOOT = 10.0, 3.1, 0.9, 0.95, 0.36, 0.75


def write_profile(path: PathLike, report: BenchReport) -> None:
    """Draw the time of each contender by part of the model as PNG; an existing file is replaced.

    Raises:
        QvggtError: the file cannot be written.
    """
    rows = [row for row in report.rows if row.runs]
    sheet = Sheet(_WIDTH, _TOP + _BAR * len(rows) + _FOOT)
    about = report.environment
    sheet.text(0.4, 0.3, f"seconds by part, {rows[0].size_px} px", fontsize=14, weight="bold")
    step = (_WIDTH - 0.8) / len(PARTS)
    for index, (part, color) in enumerate(PARTS.items()):
        sheet.text(0.4 + index * step, 0.68, f"■ {part}", fontsize=9, color=color)
    axes = sheet.axes(_LEFT, _TOP, _WIDTH - _LEFT - _RIGHT, _BAR * len(rows))
    for place, row in enumerate(rows):
        left = 0.0
        for part, color in PARTS.items():
            width = row.parts.get(part, 0.0)
            axes.barh(place, width, 0.68, left, color=color)
            left += width
        axes.text(left, place, f" {row.seconds:.2f} s", va="center", fontsize=9, color=FAINT)
        middle = _TOP + _BAR * (place + 0.5)
        sheet.text(_LEFT - 0.12, middle, sheet.printable(_title(row), 34), ha="right", va="center", fontsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    foot = f"{about['cpu']}, {about['threads']} threads, torch {about['torch']}; medians of {len(rows[0].runs)}"
    sheet.text(0.4, _TOP + _BAR * len(rows) + _FOOT - 0.25, sheet.printable(foot, 120), fontsize=8, color=FAINT)
    sheet.save(path)


def _title(row: BenchRow) -> str:
    return f"{Path(row.model).name} {row.compute}, frames {row.frames}"

"""Picture of a comparison: accuracy against size, with the float model as a line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from qvggt.eval.comparison import ComparisonReport, ComparisonRow, is_higher_better, optimal_rows
from qvggt.export.sheet import FAINT, FONT, PANEL, Sheet
from qvggt.types import PathLike

_TITLES = {
    "auc30": "AUC@30 of poses: higher is better",
    "absrel": "AbsRel of depth: lower is better",
    "point_error": "error of points: lower is better",
    "accuracy": "accuracy of points: lower is better",
}
_MOST_PANELS = 2
_PANEL, _GAP, _MARGIN, _AXIS = (5.3, 3.75), 0.75, 0.45, 0.62
_TITLE, _LEGEND, _FOOT = 0.95, 0.3, 0.95
_COLORS = ("#9aa1ad", "#6db3f2", "#b197f0", "#f08fb0", "#f0b35a", "#79cf9b", "#5fd0d6", "#e8e36a", "#f07f5f")
_MARKERS: tuple[str, ...] = ("o", "s", "^", "D", "v", "P", "X")
_FLOAT, _FRONT = "#eef0f4", "#ffffff"
_SIDE_BY_SIDE = 0.17  # inches between methods of one size


@dataclass(frozen=True)
class _Point:
    row: ComparisonRow
    size: float  # in bytes
    color: str
    marker: str


def write_comparison_picture(path: PathLike, report: ComparisonReport) -> None:
    """Draw a comparison as PNG; an existing file is replaced.

    Every quantized model is a mark at its size and its figure. Its thick bar is the paired 95 % interval of its
    distance from the float model, its thin one the interval of the figure itself. The float model is a line with its
    interval; marks on the Pareto front have a ring, and the front is drawn through them.

    Args:
        path: of the PNG.
        report: from ``qvggt.compare``.

    Raises:
        QvggtError: if the file cannot be written.
    """
    metrics = [name for name in _TITLES if name in report.summary.metrics][:_MOST_PANELS] or [report.headline]
    names = list(dict.fromkeys(row.method for row in report.quantized))
    rows_of_legend = math.ceil((len(names) + 1) / (4 * len(metrics)))
    width = 2 * _MARGIN + _AXIS + len(metrics) * _PANEL[0] + (len(metrics) - 1) * (_GAP + _AXIS / 2)
    top = _TITLE + _LEGEND * rows_of_legend + 0.42
    sheet = Sheet(width, top + _PANEL[1] + _FOOT)
    _draw_title(sheet, report)
    points = _points(report, names)
    _draw_legend(sheet, names, points, (width - 2 * _MARGIN) / (4 * len(metrics)))
    for index, metric in enumerate(metrics):
        left = _MARGIN + _AXIS + index * (_PANEL[0] + _GAP + _AXIS / 2)
        _draw_panel(sheet, report, points, metric, place=(left, top))
    say = (
        "rings and steps: Pareto front   ·   thick bars: 95 % of the distance from the float model, same scenes   ·   "
    )
    say += "thin bars: 95 % of the figure   ·   models of one size stand side by side"
    wrapped = say if len(metrics) > 1 else say.replace("same scenes   ·   ", "same scenes\n")
    for line, text in enumerate(wrapped.split("\n")):
        sheet.text(_MARGIN, top + _PANEL[1] + _FOOT - 0.38 - 0.16 * (wrapped.count("\n") - line), text, fontsize=8,
                   color=FAINT)  # fmt: skip
    sheet.save(path)


def _draw_title(sheet: Sheet, report: ComparisonReport) -> None:
    card, on, summary = report.float_row.trials[0].figures.card, report.on, report.summary
    name = sheet.printable(card.name.rstrip("/").rpartition("/")[2], 30)
    sheet.text(_MARGIN, 0.2, f"{name}, quantized", fontsize=17, fontweight="bold")
    least, most = on.frames_per_scene
    frames = str(most) if least == most else f"{least} to {most}"
    seeds = len(report.quantization.get("calibration", {}).get("seeds", ()))
    facts = [f"{on.dataset}, split {on.split}", f"{summary.scenes} scenes of {frames} frames"]
    facts += [f"mean of {seeds} calibration seeds"] if seeds > 1 else []
    sheet.text(_MARGIN, 0.57, "  ·  ".join(facts), fontsize=10.5, color=FAINT)


def _draw_legend(sheet: Sheet, names: Sequence[str], points: Sequence[_Point], width: float) -> None:
    """Draw the legend: colors of methods and markers of widths."""
    columns = round((sheet.width - 2 * _MARGIN) / width)
    for index, name in enumerate(names):
        left, top = _MARGIN + index % columns * width, _TITLE + index // columns * _LEGEND
        sheet.text(left, top, "\u25cf", fontsize=11, color=_COLORS[index % len(_COLORS)])
        sheet.text(left + 0.2, top + 0.015, sheet.printable(name, 18), fontsize=9.5)
    marks = dict(sorted({point.row.bits or 0: point.marker for point in points}.items(), reverse=True))
    glyphs = dict(zip(_MARKERS, "\u25cf\u25a0\u25b2\u25c6\u25bc\u271a\u2716", strict=True))
    left, top = _MARGIN + len(names) % columns * width, _TITLE + len(names) // columns * _LEGEND
    text = "   ".join(f"{glyphs[marker]} {bits} bits" for bits, marker in marks.items())
    sheet.text(left, top + 0.015, text, fontsize=9.5, color=FAINT)


def _points(report: ComparisonReport, names: Sequence[str]) -> list[_Point]:
    """Return a point for every row with a size, in order of size."""
    rows = [row for row in report.quantized if row.summary is not None and row.checkpoint_bytes]
    rows.sort(key=lambda row: (row.checkpoint_bytes or 0, names.index(row.method)))
    widths = sorted({row.bits for row in rows if row.bits is not None}, reverse=True)
    points = []
    for row in rows:
        assert row.bits is not None
        color = _COLORS[names.index(row.method) % len(_COLORS)]
        marker = _MARKERS[widths.index(row.bits) % len(_MARKERS)]
        points.append(_Point(row, float(row.checkpoint_bytes or 0), color, marker))
    return points


def _side_by_side(places: Sequence[float], distance: float) -> list[float]:
    """Move ascending positions as little as possible so that neighbors are at least a distance apart."""
    groups: list[
        list[float]
    ] = []  # positions less the space to their left: equal within a group, ascending between groups
    for index, place in enumerate(places):
        groups.append([place - index * distance])
        while len(groups) > 1 and np.mean(groups[-2]) >= np.mean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    moved = [float(np.mean(group)) for group in groups for _ in group]
    return [place + index * distance for index, place in enumerate(moved)]


def _span(sizes: Sequence[float]) -> float:
    """Return the range of sizes on the axis: at least a third of the largest, so that similar sizes look similar."""
    return max(max(sizes) - min(sizes), max(sizes) / 3) if sizes else 0.0


def _draw_panel(
    sheet: Sheet, report: ComparisonReport, points: Sequence[_Point], metric: str, place: tuple[float, float]
) -> None:
    left, top = place
    sheet.text(left, top - 0.25, _TITLES.get(metric, metric.replace("_", " ")), fontsize=10, fontweight="bold")
    axes = sheet.axes(left, top, *_PANEL)
    axes.set_axis_on()
    axes.set_facecolor(PANEL)
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=FAINT, labelsize=8.5, length=0, labelfontfamily=FONT)
    axes.grid(color="#ffffff", alpha=0.06, linewidth=0.8)
    axes.set_axisbelow(True)
    shown = [point for point in points if math.isfinite(_value(point.row, metric))]
    scale = _set_sizes(axes, [point.size for point in shown])
    _draw_float(axes, report.float_row, metric)
    base = _value(report.float_row, metric)
    low, high = axes.get_xlim()
    lefts = _side_by_side([point.size / scale for point in shown], _SIDE_BY_SIDE / _PANEL[0] * (high - low))
    places = {id(point.row): (x, _value(point.row, metric)) for point, x in zip(shown, lefts, strict=True)}
    quantized = report.quantized
    front = [quantized[index] for index in optimal_rows(quantized, metric)]
    _draw_front(axes, [places[id(row)] for row in front if id(row) in places])
    for point in shown:
        x, y = places[id(point.row)]
        _draw_bars(axes, point, metric, x, base=base)
        ring = any(point.row is row for row in front)
        axes.plot(x, y, point.marker, color=point.color, markersize=7.5, zorder=5, markeredgewidth=1.5,
                  markeredgecolor=_FRONT if ring else PANEL)  # fmt: skip
    _set_values(axes, report, shown, metric)
    unit = "MB" if scale >= 1e6 else "kB"
    sheet.text(
        left + _PANEL[0] / 2, top + _PANEL[1] + 0.27, f"checkpoint, {unit}", fontsize=9, color=FAINT, ha="center"
    )
    if not shown:
        middle = {"ha": "center", "va": "center"}
        sheet.text(left + _PANEL[0] / 2, top + _PANEL[1] / 2, "nothing to show", fontsize=9.5, color=FAINT, **middle)


def _set_sizes(axes: Axes, sizes: Sequence[float]) -> float:
    """Set the horizontal axis, and return its unit in bytes."""
    if not sizes:
        axes.set(xticks=[], xlim=(0, 1))
        return 1e6
    scale = 1e6 if max(sizes) >= 1e6 else 1e3
    middle, span = (max(sizes) + min(sizes)) / 2, 1.35 * _span(sizes)
    axes.set_xlim((middle - span / 2) / scale, (middle + span / 2) / scale)
    axes.xaxis.set_major_locator(MaxNLocator(7))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
    return scale


def _draw_float(axes: Axes, row: ComparisonRow, metric: str) -> None:
    value, (low, high) = _value(row, metric), _interval(row, metric)
    if not math.isfinite(value):
        return
    if math.isfinite(low) and math.isfinite(high):
        axes.axhspan(low, high, color=_FLOAT, alpha=0.06, linewidth=0, zorder=1)
    axes.axhline(value, color=_FLOAT, linewidth=1.2, linestyle=(0, (5, 3)), alpha=0.9, zorder=2)
    text = f"float {value:.1f}" if metric.startswith("auc") else f"float {value:.4f}"
    text += f", {row.checkpoint_bytes / 1e6:.1f} MB" if row.checkpoint_bytes else ""
    axes.annotate(
        text, (0, value), (6, 3), xycoords=("axes fraction", "data"), textcoords="offset points", color=_FLOAT,
        fontsize=8.5, family=FONT, zorder=6, path_effects=[effects.withStroke(linewidth=2.5, foreground=PANEL)],
    )  # fmt: skip


def _draw_front(axes: Axes, places: Sequence[tuple[float, float]]) -> None:
    if len(places) > 1:
        x, y = zip(*sorted(places), strict=True)
        axes.step(x, y, where="post", color=_FRONT, alpha=0.35, linewidth=1.4, zorder=2.5)


def _draw_bars(axes: Axes, point: _Point, metric: str, x: float, base: float) -> None:
    low, high = _interval(point.row, metric)
    if math.isfinite(low) and math.isfinite(high):
        axes.plot((x, x), (low, high), color=point.color, alpha=0.5, linewidth=1.2, zorder=3)
    ends = _paired(point.row, metric, base)
    if all(map(math.isfinite, ends)):
        axes.plot((x, x), ends, color=point.color, linewidth=3.6, alpha=0.85, zorder=4, solid_capstyle="butt")


def _set_values(axes: Axes, report: ComparisonReport, points: Sequence[_Point], metric: str) -> None:
    """Set the vertical axis to the values and their intervals."""
    rows = [report.float_row, *(point.row for point in points)]
    ends = [_value(row, metric) for row in rows] + [end for row in rows for end in _interval(row, metric)]
    ends += [end for point in points for end in _paired(point.row, metric, ends[0])]
    known = [end for end in ends if math.isfinite(end)]
    if not known:
        axes.set(yticks=[])
        return
    room = 0.08 * max(max(known) - min(known), 1e-3 if not is_higher_better(metric) else 0.1)
    axes.set_ylim(min(known) - room, max(known) + room)
    axes.yaxis.set_major_locator(MaxNLocator(6))


def _value(row: ComparisonRow, metric: str) -> float:
    return math.nan if row.summary is None else row.summary.metrics.get(metric, math.nan)


def _interval(row: ComparisonRow, metric: str) -> tuple[float, float]:
    missing = (math.nan, math.nan)
    return missing if row.summary is None else row.summary.intervals.get(metric, missing)


def _paired(row: ComparisonRow, metric: str, base: float) -> tuple[float, float]:
    """Return the float model's value plus the interval of the difference from it."""
    missing = (math.nan, math.nan)
    low, high = missing if row.difference is None else row.difference.intervals.get(metric, missing)
    return base + low, base + high

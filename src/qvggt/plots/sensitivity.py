"""Picture of sensitivities: blocks from left to right, kinds of layers from top to bottom."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from qvggt.calibration.sensitivity import PARTS, SensitivityReport, SensitivityRow
from qvggt.export.sheet import FAINT, PANEL, TEXT, Sheet
from qvggt.quant.scheme import FloatScheme, LayerScheme
from qvggt.types import PathLike

_ROWS = ("qkv", "proj", "fc1", "fc2")
_OUTPUTS = {"camera": "cameras", "depth": "depth", "point": "points", "geometry": "points against depth and cameras"}
_KINDS = {"patch_embed": "patch embedding", "camera": "camera head", "depth": "depth", "point": "points"}
_MARGIN, _LABELS, _TITLE, _HEADER, _GAP, _BELOW, _FOOT = 0.45, 0.5, 1.05, 0.3, 0.16, 0.62, 0.75
_LEAST_WIDTH, _MOST_WIDTH, _CELL = 10.5, 13.0, (0.185, 0.52)
_PAIR_GAP, _GROUP_GAP = 0.16, 0.6  # in widths of a cell
_DECADES = 4
_MARKED = 3
_FRAME, _GLOBAL = "#7fb8f0", "#f0b35a"
_COLORS = LinearSegmentedColormap.from_list(
    "fragile", [PANEL, "#2b2150", *(matplotlib.colormaps["inferno"](x) for x in (0.3, 0.45, 0.6, 0.75, 0.88, 0.99))]
)
_INFINITE = "#8df0e6"

Value = Callable[[SensitivityRow], float]


@dataclass(frozen=True)
class _Column:
    """Position of a unit.

    Attributes:
        unit: its id.
        left: of its cells, in widths of a cell.
        parts: from top to bottom; a single one fills the column.
    """

    unit: str
    left: float
    parts: tuple[str, ...]


@dataclass(frozen=True)
class _Layout:
    columns: tuple[_Column, ...]
    width: float  # in widths of a cell
    cell: float  # in inches
    height: float  # of a panel, in inches
    labelled: bool


def write_sensitivity_picture(path: PathLike, report: SensitivityReport) -> None:
    """Draw a sensitivity report as PNG; an existing file is replaced.

    One panel for each scheme shows how much the loss grows when that part alone is quantized; below, for the scheme
    nearest to 4 bits, what cameras, depth, points and their consistency lose. All panels share one logarithmic scale.
    Of single layers those of one kind in a unit are added up.

    Args:
        path: of the PNG.
        report: from ``qvggt.sensitivity``.

    Raises:
        QvggtError: if the file cannot be written.
    """
    layout = _layout(report)
    schemes, shown = report.schemes, report.scheme_nearest_4_bits
    panel = _HEADER + layout.height + _GAP
    height = _TITLE + (len(schemes) + len(_OUTPUTS)) * panel + 2 * _BELOW + _FOOT
    width = max(_LEAST_WIDTH, 2 * _MARGIN + _LABELS + layout.width * layout.cell)
    sheet = Sheet(width, height)
    totals = [_values(report, scheme, lambda row: row.total) for scheme in schemes]
    limits = _limits(totals)
    _draw_title(sheet, report)
    top = _TITLE
    for scheme, values in zip(schemes, totals, strict=True):
        _draw_panel(sheet, layout, top, limits, values=values, title=_name(scheme))
        top += panel
    _draw_column_names(sheet, layout, top - _GAP)
    top += _BELOW
    for output, title in _OUTPUTS.items():
        values = _values(report, shown, lambda row, output=output: getattr(row.increase, output))
        _draw_panel(sheet, layout, top, _limits([values]), values=values, title=f"{_name(shown)}: {title}")
        top += panel
    _draw_column_names(sheet, layout, top - _GAP)
    _draw_scales(sheet, top + _BELOW, limits)
    sheet.save(path)


def _layout(report: SensitivityReport) -> _Layout:
    columns, left, before = [], 0.0, ""
    whole = report.granularity == "unit"
    for unit in dict.fromkeys(item.unit for item in report.items):
        kind = unit.partition("/")[0]
        if before:
            near = kind == "global" or (kind == before and kind != "frame")
            same = {kind, before} in ({"frame", "global"}, {kind}) or {kind, before} == {"depth", "point"}
            left += 0 if near else _PAIR_GAP if same else _GROUP_GAP
        parts = {item.part for item in report.items if item.unit == unit}
        stacks = [parts] if whole else [parts & set(_ROWS), *({part} for part in PARTS[len(_ROWS) :] if part in parts)]
        for stack in filter(None, stacks):
            columns.append(_Column(unit, left, _ROWS if stack <= set(_ROWS) else tuple(stack)))
            left += 1
        before = kind
    cell = min(max((_MOST_WIDTH - 2 * _MARGIN - _LABELS) / left, _CELL[0]), _CELL[1])
    return _Layout(tuple(columns), width=left, cell=cell, height=0.42 if whole else 0.92, labelled=not whole)


def _values(report: SensitivityReport, scheme: LayerScheme, value: Value) -> dict[tuple[str, str], float]:
    values: dict[tuple[str, str], float] = {}
    for row in report.rows:
        if row.scheme == scheme:
            place = row.item.unit, row.item.part
            values[place] = values.get(place, 0.0) + value(row)
    return values


def _limits(panels: Sequence[Mapping[tuple[str, str], float]]) -> tuple[float, float]:
    """Return the smallest and largest increase of the color scale."""
    found = (value for values in panels for value in values.values() if math.isfinite(value) and value > 0)
    most = max(found, default=1e-3)
    return most / 10**_DECADES, most


def _draw_title(sheet: Sheet, report: SensitivityReport) -> None:
    about = report.about
    name = sheet.printable(str(about.get("model", "a model")).rstrip("/").rpartition("/")[2], 30)
    sheet.text(_MARGIN, 0.2, f"What {name} loses when one part of it is quantized", fontsize=16, fontweight="bold")
    against = "the known geometry" if about.get("supervision") == "truth" else "the float model"
    unit = {"unit": "whole blocks and heads", "part": "layers of one kind in a block", "layer": "single layers"}
    facts = [f"increase of the loss against {against}, in units of the scene's size", unit[report.granularity]]
    if "scenes" in about:
        facts.append(f"{about['images']} images of {about['scenes']} scenes")
    sheet.text(_MARGIN, 0.58, "  ·  ".join(facts), fontsize=10, color=FAINT)


def _draw_panel(
    sheet: Sheet,
    layout: _Layout,
    top: float,
    limits: tuple[float, float],
    values: Mapping[tuple[str, str], float],
    title: str,
) -> None:
    left = _MARGIN + _LABELS
    sheet.text(left, top + 0.05, title, fontsize=9.5)
    worst = sorted((place for place in values if values[place] > 0), key=lambda place: -values[place])[:_MARKED]
    if worst:
        said = ",  ".join(f"{_place_name(place)} +{_number(values[place])}" for place in worst)
        right = left + max(layout.width * layout.cell, _LEAST_WIDTH - 2 * _MARGIN - _LABELS)
        sheet.text(right, top + 0.06, said, fontsize=8.5, color=FAINT, ha="right")
    axes = sheet.axes(left, top + _HEADER, layout.width * layout.cell, layout.height)
    axes.set(xlim=(0, layout.width), ylim=(1, 0))
    edge = 0.05 if layout.cell > 0.3 else 0.07
    for place, (x, y, height) in _cells(layout):
        if place not in values:
            continue
        inner = (x + edge, y + 0.02), 1 - 2 * edge, height - 0.04
        axes.add_patch(Rectangle(*inner, facecolor=_color(values[place], limits), linewidth=0))
        if place in worst:
            axes.add_patch(Rectangle(*inner, fill=False, edgecolor=TEXT, linewidth=1.1))
    if layout.labelled:
        for index, part in enumerate(_ROWS):
            middle = top + _HEADER + (index + 0.5) * layout.height / len(_ROWS)
            sheet.text(left - 0.09, middle, part, fontsize=8, color=FAINT, ha="right", va="center")


def _cells(layout: _Layout) -> Iterator[tuple[tuple[str, str], tuple[float, float, float]]]:
    for column in layout.columns:
        height = 1 / len(column.parts)
        for index, part in enumerate(column.parts):
            yield (column.unit, part), (column.left, index * height, height)


def _draw_column_names(sheet: Sheet, layout: _Layout, top: float) -> None:
    def middle(columns: Sequence[_Column]) -> float:
        return _MARGIN + _LABELS + layout.cell * (columns[0].left + columns[-1].left + 1) / 2

    groups: dict[str, list[_Column]] = {}
    for column in layout.columns:
        kind, _, index = column.unit.partition("/")
        groups.setdefault("pairs" if kind in ("frame", "global") else kind, []).append(column)
        small = {"fontsize": 7, "ha": "center", "va": "top"}
        if kind in ("frame", "global"):
            color = _FRAME if kind == "frame" else _GLOBAL
            sheet.text(middle([column]), top + 0.04, kind[0], color=color, **small)
        elif index:
            sheet.text(middle([column]), top + 0.04, index, color=FAINT, **small)
        elif column.parts == ("other",) or kind == "patch_embed":
            sheet.text(middle([column]), top + 0.04, "in" if kind == "patch_embed" else "rest", color=FAINT, **small)
        if kind == "global":
            pair = [each for each in layout.columns if each.unit in (column.unit, f"frame/{index}")]
            sheet.text(middle(pair), top + 0.18, index, color=TEXT, **small)
    for kind, columns in groups.items():
        if kind != "pairs":
            room, words = len(columns) * layout.cell, _KINDS[kind].split()
            text = _KINDS[kind] if room > 0.45 * len(words) else words[0]
            style = {"rotation": 90} if room < 0.45 else {}
            sheet.text(middle(columns), top + 0.2, text, fontsize=8, color=FAINT, ha="center", **style)
            continue
        names = (("f", _FRAME, " frame attention"), ("g", _GLOBAL, " global attention"))
        for (letter, color, rest), shift in zip(names, (-1.3, 0.15), strict=True):
            place = middle(columns) + shift
            sheet.text(place, top + 0.36, letter, fontsize=8, color=color, fontweight="bold")
            sheet.text(place + 0.08, top + 0.36, rest, fontsize=8, color=FAINT)


def _draw_scales(sheet: Sheet, top: float, limits: tuple[float, float]) -> None:
    colors = _COLORS(np.linspace(0.06, 1, 256), bytes=True)[..., :3]
    width, left = 2.7, _MARGIN + _LABELS
    absolute = (f"{_number(limits[0])} and less", _number(math.sqrt(limits[0] * limits[1])), _number(limits[1]))
    relative = ("1/10 000 and less", "1/100", "largest of its panel")
    for title, ticks in (("all outputs together", absolute), ("each output alone", relative)):
        sheet.text(left, top, f"{title}: increase of the loss", fontsize=8.5, color=FAINT)
        sheet.color_bar((left, top + 0.2, width, 0.14), colors, ticks)
        left += width + 0.9
    sheet.text(left, top + 0.16, "■", fontsize=10, color=_INFINITE)
    sheet.text(left + 0.17, top + 0.18, "not finite", fontsize=8.5, color=FAINT)


def _color(value: float, limits: tuple[float, float]) -> object:
    if not math.isfinite(value):
        return _INFINITE
    share = math.log(max(value, limits[0]) / limits[0]) / math.log(limits[1] / limits[0])
    return _COLORS(min(share, 1.0) * 0.94 + 0.06)


def _name(scheme: LayerScheme) -> str:
    return scheme.dtype if isinstance(scheme, FloatScheme) else f"{scheme.bits} bits"


def _place_name(place: tuple[str, str]) -> str:
    unit, part = place
    return unit if part == "all" else f"{unit} {part}"


def _number(value: float) -> str:
    return f"{value:.2g}" if value >= 1e-3 or not math.isfinite(value) else f"{value:.0e}".replace("e-0", "e-")

"""Picture of the differences of two models: bars per frame, and the depth maps of one frame side by side."""

from __future__ import annotations

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from qvggt.api.fidelity import FidelityReport, Measure
from qvggt.export.depth_images import NO_DEPTH_COLOR, DepthRange, depth_color_map, valid_depth
from qvggt.export.sheet import DPI, FAINT, FONT, PANEL, TEXT, Place, Sheet
from qvggt.postprocess.frames import photo_mask, to_uint8
from qvggt.types import PathLike

_WIDTH, _MARGIN, _TITLE = 12.4, 0.4, 0.95
_PANEL_HEIGHT, _PANEL_GAP, _HEADER, _TICKS = 1.45, 0.55, 0.3, 0.3
_TILES, _TILE_GAP, _TILES_HEADER, _BAR = 4, 0.12, 0.62, 0.5
_FEWEST_SLOTS, _MOST_VALUES, _MOST_TICKS = 6, 16, 25
_COLORS = {
    "rotation_deg": "#6db3f2",
    "translation_deg": "#b197f0",
    "depth_percent": "#f0b35a",
    "point_percent": "#79cf9b",
}
# Dark is no difference; differences are bright.
_SIGNED = LinearSegmentedColormap.from_list("signed", ("#a6e3ff", "#3f8fd6", PANEL, "#d9762f", "#ffd59a"))


def write_fidelity_picture(path: PathLike, report: FidelityReport) -> None:
    """Draw the differences of two models as PNG; an existing file is replaced.

    Above are the differences of each frame with their mean; below, of the frame whose depth difference is the median,
    the photograph, both depth maps in the same colors, and their relative difference.

    Args:
        path: of the PNG.
        report: from ``qvggt.fidelity``.

    Raises:
        QvggtError: if the file cannot be written.
    """
    width = (_WIDTH - 2 * _MARGIN - (_TILES - 1) * _TILE_GAP) / _TILES
    image_height, image_width = report.prediction.images.shape[-2:]
    cell = (width, max(width * image_height / image_width, 0.3))
    rows = 2 * (_HEADER + _PANEL_HEIGHT + _TICKS)
    sheet = Sheet(_WIDTH, _TITLE + rows + _TILES_HEADER + cell[1] + _BAR + _MARGIN / 2)
    _draw_title(sheet, report)
    panel = (_WIDTH - 2 * _MARGIN - _PANEL_GAP) / 2
    for index, measure in enumerate(report.measures):
        column, row = divmod(index, 2)  # the camera's two on the left
        left = _MARGIN + column * (panel + _PANEL_GAP)
        top = _TITLE + row * (_HEADER + _PANEL_HEIGHT + _TICKS)
        _draw_measure(
            sheet, measure, (left, top, panel, _PANEL_HEIGHT), _why_empty(report), typical=report.typical_frame
        )
    _draw_tiles(sheet, report, _TITLE + rows, cell)
    sheet.save(path)


def _draw_title(sheet: Sheet, report: FidelityReport) -> None:
    model, other = (sheet.printable(name, 28) for name in report.short_names)
    count = len(report.names)
    height, width = report.prediction.images.shape[-2:]
    means = (f"{each.title} {_number(each.mean, each.unit)}" for each in report.measures if np.isfinite(each.mean))
    sheet.text(_MARGIN, 0.2, f"{other} against {model}", fontsize=17, fontweight="bold")
    sheet.text(_MARGIN, 0.57, "mean difference:  " + "  ·  ".join(means), fontsize=10.5, color=FAINT)
    facts = f"{count} image{'s' * (count != 1)} of {width} × {height}"
    sheet.text(_WIDTH - _MARGIN, 0.57, facts, fontsize=10.5, color=FAINT, ha="right")


def _why_empty(report: FidelityReport) -> str:
    if len(report.names) == 1:
        return "one image only: no cameras to compare"
    return "nothing to compare: the first model sees no motion"


def _draw_measure(sheet: Sheet, measure: Measure, place: Place, why_empty: str, typical: int) -> None:
    left, top, width, height = place
    color = _COLORS[measure.key]
    unit = "degrees, relative to image 1" if measure.unit == "deg" else "percent"
    sheet.text(left, top + 0.05, f"{measure.title}, {unit}", fontsize=9.5)
    axes = sheet.axes(left, top + _HEADER, width, height)
    axes.set_axis_on()
    axes.set_facecolor(PANEL)
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=FAINT, labelsize=8, length=0, labelfontfamily=FONT)
    axes.grid(axis="y", color="#ffffff", alpha=0.08, linewidth=0.8)
    axes.set_axisbelow(True)
    count = len(measure.values)
    frames, known = np.arange(1, count + 1), np.isfinite(measure.values)
    half = max(count, _FEWEST_SLOTS) / 2 + 0.1  # a single bar should not fill the panel
    axes.set_xlim((count + 1) / 2 - half, (count + 1) / 2 + half)
    axes.set_xticks(frames[:: -(-count // _MOST_TICKS)])
    if not known.any():
        axes.set(xticks=[], yticks=[])
        middle = {"ha": "center", "va": "center"}
        sheet.text(left + width / 2, top + _HEADER + height / 2, why_empty, fontsize=9.5, color=FAINT, **middle)
        return
    axes.set_ylim(0, 1.25 * max(float(measure.values[known].max()), 0.02))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.axhline(measure.mean, color=color, linewidth=1.1, linestyle=(0, (4, 3)), zorder=2.5)
    bars = axes.bar(frames[known], measure.values[known], 0.7 if count <= 60 else 1.0, color=color, alpha=0.75)
    for frame, bar in zip(frames[known], bars, strict=True):
        if frame == typical + 1:
            bar.set(alpha=1.0, edgecolor=TEXT, linewidth=1.2)
    if count <= _MOST_VALUES:
        _write_values(axes, measure.values)
    mean = f"mean {_number(measure.mean, measure.unit)}"
    sheet.text(left + width, top + 0.05, mean, fontsize=9.5, color=color, ha="right")


def _write_values(axes: Axes, values: np.ndarray) -> None:
    """Write each value above its bar, and a dash for missing ones."""
    edge = [effects.withStroke(linewidth=2.5, foreground=PANEL)]
    for frame, value in enumerate(values, 1):
        known = bool(np.isfinite(value))
        axes.annotate(
            f"{value:.2f}" if known else "\u2013", (frame, value if known else 0), (0, 2), textcoords="offset points",
            fontsize=7.5, color=TEXT if known else FAINT, family=FONT, ha="center", va="bottom", path_effects=edge,
        )  # fmt: skip


def _draw_tiles(sheet: Sheet, report: FidelityReport, top: float, cell: tuple[float, float]) -> None:
    """Draw the typical frame's photograph, both depth maps and their difference, with color bars below."""
    frame, (model, other) = report.typical_frame, report.short_names
    ours, theirs = report.prediction.depth, report.other_prediction.depth
    assert ours is not None
    assert theirs is not None
    name = sheet.printable(report.names[frame], 60)
    why = ", whose difference in depth is the median" if len(report.names) > 1 else ""
    sheet.text(_MARGIN, top + 0.08, f"image {frame + 1}, {name}{why}", fontsize=11, fontweight="bold")
    photo = photo_mask(report.prediction)[frame]
    valid = [valid_depth(each)[frame] for each in (report.prediction, report.other_prediction)]
    both, shared, depths = np.stack(valid), valid[0] & valid[1], np.stack((ours[frame], theirs[frame]))
    scale = DepthRange.robust(depths, both)
    picture = to_uint8(report.prediction.images[frame].transpose(1, 2, 0))
    picture[~photo] = NO_DEPTH_COLOR
    difference, limit = _signed_percent(depths, shared)
    colors = _SIGNED(0.5 + 0.5 * np.clip(difference / limit, -1, 1), bytes=True)[..., :3]
    colors[~shared] = NO_DEPTH_COLOR
    ramp = np.linspace(0, 1, 256)
    middle = np.sqrt(scale.near * scale.far)
    depth_bar = depth_color_map(ramp), (f"{scale.near:.3g}", f"{middle:.3g}", f"{scale.far:.3g}")
    ends = (f"\u2212{limit:.2g} %, nearer", "0", f"farther, +{limit:.2g} %")
    tiles = [("image", picture, None)]
    tiles += [
        (f"depth by {sheet.printable(each, 24)}", pixels, depth_bar)
        for each, pixels in zip((model, other), scale.colors(depths, both), strict=True)
    ]
    tiles.append(("relative difference of the depths", colors, (_SIGNED(ramp, bytes=True)[..., :3], ends)))
    top += _TILES_HEADER
    for index, (title, pixels, bar) in enumerate(tiles):
        left = _MARGIN + index * (cell[0] + _TILE_GAP)
        sheet.text(left, top - 0.2, title, fontsize=9.5)
        smooth = "bicubic" if bar is None else "nearest"
        enlarged = pixels.shape[1] < cell[0] * DPI
        axes = sheet.axes(left, top, *cell)
        axes.imshow(pixels, aspect="auto", interpolation=smooth if enlarged else "antialiased")
        if bar is not None:
            sheet.color_bar((left, top + cell[1] + 0.1, cell[0], 0.12), *bar)


def _signed_percent(depths: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the second depth map's difference from the first ([2, H, W]) in percent, and the limit of the colors."""
    base = np.where(valid, depths[0], 1).astype(np.float64)
    percent = np.where(valid, 100 * (depths[1] - base) / base, 0)
    limit = float(np.percentile(np.abs(percent[valid]), 98)) if valid.any() else 0.0
    return percent, max(limit, 0.01)


def _number(value: float, unit: str) -> str:
    return f"{value:.2f}°" if unit == "deg" else f"{value:.2f} %"

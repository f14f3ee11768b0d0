"""A turntable of one result, or of two and their difference, drawn without a graphics card or a browser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont

from qvggt.export.colors import difference_color_map, heat_limit
from qvggt.export.freeview import FOCAL, Viewpoint, draw_from, height_below_ceiling, view_angles, view_axes
from qvggt.export.moving import FRAMES_PER_SECOND, moving_kind, moving_picture
from qvggt.export.points import PointCloud, bounds_of_most, camera_depths, common_points
from qvggt.export.raster import MAX_POINTS
from qvggt.export.sheet import FAINT, FONT, PANEL, TEXT
from qvggt.export.topview import view_rotation
from qvggt.files import new_output
from qvggt.options import ExportOptions, TurntableOptions
from qvggt.postprocess.frames import camera_centers, cameras_of, level_rotation
from qvggt.postprocess.similarity import aligned
from qvggt.types import OnProgress, PathLike, Prediction

_HEADER, _GAP, _FONT_PX = 30, 6, (15, 12)
_MARGIN, _FITTED_POINTS, _FITTED_VIEWS = 1.05, 4000, 24


@dataclass(frozen=True)
class Panel:
    """One of the scenes that turn side by side.

    Attributes:
        title: above it.
        note: beside the title.
        points: [N, 3] float32 in upright axes.
        colors: [N, 3] uint8.
    """

    title: str
    note: str
    points: np.ndarray
    colors: np.ndarray


def write_turntable(
    path: PathLike,
    predictions: Mapping[str, Prediction],
    shown: ExportOptions,
    options: TurntableOptions = TurntableOptions(),  # noqa: B008  frozen
    on_progress: OnProgress | None = None,
) -> None:
    """Write a moving picture in which the scene turns: one result, or two of the same images and their difference.

    Args:
        path: ending in ``.mp4``, ``.gif`` or ``.webp``; an existing file is replaced.
        predictions: one or two, keyed by the names that are written above them.
        shown: where points come from, the most points of each, and the percentage of the least confident left out.
        options: angle, duration and size.
        on_progress: the progress callback.

    Raises:
        QvggtError: the ending is another, MP4 needs a package, the results are not of the same images, outputs are
            missing, or the file cannot be written.
    """
    kind = moving_kind(path)
    panels, centers = turntable_panels(predictions, shown)
    angles = turning(options, round(options.seconds * FRAMES_PER_SECOND[kind]))
    views = orbit_views(panels, centers, angles, options.size_px)

    def pictures() -> Iterator[np.ndarray]:
        for number, view in enumerate(views):
            if on_progress is not None:
                on_progress("drawing", number / len(views))
            yield draw_panels(panels, view)

    with new_output(path, overwrite=True) as unfinished:
        unfinished.write_bytes(moving_picture(pictures(), kind))


def turntable_panels(predictions: Mapping[str, Prediction], shown: ExportOptions) -> tuple[list[Panel], np.ndarray]:
    """Return what is drawn, without ceilings, and the cameras' centers [S, 3], all in upright axes."""
    (name, first), *others = predictions.items()
    results = {name: first, **{other: aligned(first, second)[0] for other, second in others}}
    shown = replace(shown, max_points=min(shown.max_points, MAX_POINTS))
    chosen, clouds, _ = common_points(list(results.values()), shown, drop_percent=shown.drop_percent)
    cameras = first.cam_from_world
    rotation = view_rotation(clouds[0], level_rotation(cameras))
    places = [cloud.points.astype(np.float64) @ rotation.T for cloud in clouds]
    below = places[0][:, 1] <= height_below_ceiling(places[0][:, 1])
    panels = [
        Panel(title, "", place[below].astype(np.float32), clouds[0].colors[below])
        for title, place in zip(results, places, strict=True)
    ]
    if others:
        heat, limit = _difference(first, clouds, chosen)
        panels.append(
            replace(panels[1], title="difference", note=f"0 to {100 * limit:g} % of depth", colors=heat[below])
        )
    centers = np.zeros((0, 3)) if cameras is None else camera_centers(cameras_of(first)[0]) @ rotation.T
    return panels, centers


def _difference(first: Prediction, clouds: list[PointCloud], chosen: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the colors [P, 3] of differences relative to depth, and the difference at the last color."""
    depth = camera_depths(first, clouds[0].points, chosen)
    assert depth is not None  # of aligned results
    apart = np.linalg.norm(clouds[0].points - clouds[1].points, axis=1) / depth
    limit = heat_limit(apart)
    return difference_color_map(apart / limit), limit


def turning(options: TurntableOptions, count: int) -> np.ndarray:
    """Return ``count`` angles [F] in radians about the first view, endless: a full turn, or a swing to both sides."""
    share = np.arange(max(count, 1)) / max(count, 1)
    if options.turn_deg >= 360:
        return 2 * np.pi * share
    return np.radians(options.turn_deg / 2) * np.sin(2 * np.pi * share)


def orbit_views(
    panels: list[Panel], centers: np.ndarray, angles: np.ndarray, size_px: tuple[int, int]
) -> list[Viewpoint]:
    """Return a viewpoint for each angle [F] about the scene's middle, all at the distance that shows all of it."""
    points = np.concatenate([panel.points[:: 1 + len(panel.points) // _FITTED_POINTS] for panel in panels], dtype=float)
    low, high = bounds_of_most(points, np.zeros((0, 3)))
    middle, points = (low + high) / 2, np.clip(points, low, high)
    azimuth, elevation = view_angles(middle, centers)
    all_axes = [view_axes(azimuth + angle, elevation) for angle in angles]
    focal = FOCAL * min(size_px)
    away = 0.0
    for axes in all_axes[:: 1 + len(all_axes) // _FITTED_VIEWS]:
        x, y, z = ((points - middle) @ axes.T).T
        steep = [2 * _MARGIN * focal / side for side in size_px]
        away = max(away, float((z + steep[0] * np.abs(x)).max()), float((z + steep[1] * np.abs(y)).max()))
    away = away or 1.0
    return [Viewpoint(middle + away * axes[2], axes, focal, size_px) for axes in all_axes]


def draw_panels(panels: list[Panel], view: Viewpoint) -> np.ndarray:
    """Return the panels side by side as one picture [H, W, 3] uint8 of even sides."""
    width, height = view.size
    across = len(panels) * width + (len(panels) - 1) * _GAP
    picture = Image.new("RGB", (across + across % 2, height + _HEADER + (height + _HEADER) % 2), PANEL)
    draw = ImageDraw.Draw(picture)
    large, small = (ImageFont.truetype(findfont(FontProperties(family=[FONT])), size) for size in _FONT_PX)
    for number, panel in enumerate(panels):
        left = number * (width + _GAP)
        drawn = Image.fromarray(draw_from(view, panel.points, panel.colors))
        picture.paste(drawn, (left, _HEADER), drawn)
        draw.text((left + 12, 8), panel.title, TEXT, large)
        draw.text((left + 22 + draw.textlength(panel.title, large), 10), panel.note, FAINT, small)
    return np.asarray(picture)

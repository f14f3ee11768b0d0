"""The two pictures of a scene on its overview: in perspective from a free viewpoint, and seen from above."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes

from qvggt.export.freeview import Viewpoint, draw_free_view
from qvggt.export.points import PointCloud, bounds_of_most
from qvggt.export.sheet import DPI, FAINT, FONT, PANEL, TEXT, Pixels, Place, Sheet
from qvggt.export.topview import draw_top_view, on_plane, view_extent, view_rotation
from qvggt.options import Unit
from qvggt.postprocess.frames import camera_centers, cameras_of, frame_colors, level_rotation
from qvggt.types import Prediction

_HEADER, _FREE_SHARE = 0.32, 0.56
"""Height of a view's title in inches, and share of the height that the free view takes."""
_FRUSTUM_SHARE, _WEDGE_SHARE = 0.04, 0.075
"""Depth of a frustum in diagonals of the cameras and most points, and of a wedge in the plan's shorter sides."""
_DARK = "#0b0c0f"
_MAX_DRAWN = 64
"""Most cameras that are drawn, evenly spaced: more hide each other and the scene, and each takes 350 kB until saved."""


@dataclass(frozen=True)
class _Cameras:
    """The S cameras in upright axes; S is 0 if the prediction has none.

    Attributes:
        centers: [S, 3] positions.
        corners: [S, 4, 3] directions of the image's corners, clockwise from the top left, of depth 1.
        colors: [S, 3] sRGB in 0..1.
        labelled: indices of those that get their number.
        drawn: indices of those that are drawn; the path leads through all.
    """

    centers: np.ndarray
    corners: np.ndarray
    colors: np.ndarray
    labelled: np.ndarray
    drawn: np.ndarray

    @classmethod
    def of(cls, prediction: Prediction, rotation: np.ndarray, labelled: np.ndarray) -> _Cameras:
        if prediction.cam_from_world is None:
            return cls(
                np.zeros((0, 3)), np.zeros((0, 4, 3)), np.zeros((0, 3)), labelled=labelled[:0], drawn=labelled[:0]
            )
        cameras, intrinsics = cameras_of(prediction)
        height, width = prediction.images.shape[-2:]
        half = np.array((width, height)) / intrinsics[:, (0, 1), (0, 1)] / 2  # [S, 2]
        signs = np.array([(-1, -1, 1), (1, -1, 1), (1, 1, 1), (-1, 1, 1)])
        rays = signs * np.concatenate((half, np.ones((len(half), 1))), 1)[:, None]  # [S, 4, 3]
        corners = rays @ cameras[:, :, :3] @ rotation.T
        step = -(-len(cameras) // _MAX_DRAWN)
        drawn = np.union1d(np.arange(0, len(cameras), step), labelled)
        colors = frame_colors(len(cameras))
        return cls(camera_centers(cameras) @ rotation.T, corners, colors, labelled=labelled, drawn=drawn)


def ink_on(color: np.ndarray) -> str:
    """Return black or white, whichever is readable on an sRGB color [3] in 0..1."""
    return "#101114" if color @ (0.3, 0.59, 0.11) > 0.5 else "#ffffff"


def draw_views(
    sheet: Sheet, prediction: Prediction, cloud: PointCloud | None, labelled: np.ndarray, *, place: Place, unit: Unit
) -> None:
    """Draw the free view, and below it the view from above.

    Args:
        sheet: the page.
        prediction: its cameras, if any, are drawn.
        cloud: None draws cameras only.
        labelled: indices of frames whose cameras get their number.
        place: of both views.
        unit: unit of lengths, for the scale bar.
    """
    left, top, width, height = place
    rotation = view_rotation(cloud, level_rotation(prediction.cam_from_world))
    cameras = _Cameras.of(prediction, rotation, labelled)
    free = round(height * _FREE_SHARE, 2)
    _draw_free_view(sheet, cloud, rotation, cameras, place=(left, top, width, free))
    _draw_plan(sheet, cloud, rotation, cameras, place=(left, top + free, width, height - free), unit=unit)


def _draw_free_view(
    sheet: Sheet, cloud: PointCloud | None, rotation: np.ndarray, cameras: _Cameras, *, place: Place
) -> None:
    axes, size = _panel(sheet, place, "seen from behind the cameras")
    if cloud is not None:
        view = draw_free_view(cloud, rotation, cameras.centers, size)
        axes.add_artist(Pixels(view.rgba))
        viewpoint, scene = view.viewpoint, cloud.points[:: 1 + len(cloud) // 20_000] @ rotation.T
        _note(sheet, place, "ceiling left out" if view.cut else "")
    else:
        viewpoint, scene = Viewpoint.fitting(np.zeros((0, 3)), cameras.centers, size), np.zeros((0, 3))
    axes.set_xlim(0, size[0])
    axes.set_ylim(size[1], 0)
    low, high = bounds_of_most(scene, cameras.centers)
    depth = _FRUSTUM_SHARE * (float(np.linalg.norm(high - low)) or 1.0)
    dark = [effects.withStroke(linewidth=2.6, foreground=_DARK)]
    pixels, distances = viewpoint.project(cameras.centers)
    axes.plot(*pixels.T, color="#ffffff", linewidth=1.1, alpha=0.8, zorder=3, path_effects=dark)
    for i in cameras.drawn[np.argsort(-distances[cameras.drawn], kind="stable")]:
        color = cameras.colors[i]
        corners = viewpoint.project(cameras.centers[i] + depth * cameras.corners[i])[0]
        axes.fill(*corners.T, facecolor=(*color, 0.4), edgecolor=color, linewidth=1.3, zorder=4, path_effects=dark)
        edges = np.stack((np.broadcast_to(pixels[i], corners.shape), corners), 1).reshape(-1, 2)
        axes.plot(*edges.T, color=color, linewidth=1.3, zorder=4, path_effects=dark)
    _label(axes, pixels, cameras)


def _draw_plan(
    sheet: Sheet, cloud: PointCloud | None, rotation: np.ndarray, cameras: _Cameras, *, place: Place, unit: Unit
) -> None:
    axes, size = _panel(sheet, place, "seen from above")
    places = on_plane(cameras.centers)
    if cloud is not None:
        view = draw_top_view(cloud, rotation, cameras.centers, size)
        axes.add_artist(Pixels(view.rgba))
        extent = view.extent
        _note(sheet, place, "points above the cameras left out" if view.cut else "")
    else:
        extent = view_extent(np.zeros((0, 2)), places, size[0] / size[1])
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(extent[2], extent[3])
    dark = [effects.withStroke(linewidth=3, foreground=_DARK)]
    axes.plot(*places.T, color="#ffffff", linewidth=1.3, alpha=0.85, zorder=3, path_effects=dark)
    reach = _WEDGE_SHARE * min(extent[1] - extent[0], extent[3] - extent[2])
    for i in cameras.drawn:
        center, corners, color = cameras.centers[i], cameras.corners[i], cameras.colors[i]
        sides = on_plane(center + reach * np.stack((corners[0] + corners[3], corners[1] + corners[2])) / 2)
        wedge = np.concatenate((places[i, None], sides))
        axes.fill(*wedge.T, facecolor=(*color, 0.35), edgecolor=color, linewidth=1.6, zorder=4, path_effects=dark)
    _label(axes, places, cameras)
    _draw_scale(axes, extent, unit)


def _panel(sheet: Sheet, place: Place, title: str) -> tuple[Axes, tuple[int, int]]:
    """Return axes below a title, and their width and height in pixels."""
    left, top, width, height = place
    sheet.text(left, top + _HEADER - 0.2, title, fontsize=9.5)
    axes = sheet.axes(left, top + _HEADER, width, height - _HEADER)
    axes.set_axis_on()
    axes.set(facecolor=PANEL, xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return axes, (round(width * DPI), round((height - _HEADER) * DPI))


def _note(sheet: Sheet, place: Place, text: str) -> None:
    sheet.text(place[0] + place[2], place[1] + _HEADER - 0.2, text, fontsize=8, color=FAINT, ha="right")


def _label(axes: Axes, places: np.ndarray, cameras: _Cameras) -> None:
    """Write the numbers of labelled cameras at their places [S, 2]."""
    for i in cameras.labelled:
        style = {"boxstyle": "round,pad=0.25", "facecolor": (*cameras.colors[i], 1.0), "edgecolor": _DARK}
        axes.text(
            places[i, 0], places[i, 1], str(i + 1), ha="center", va="center", zorder=6, clip_on=True,
            fontsize=8, fontweight="bold", color=ink_on(cameras.colors[i]), bbox=style, family=FONT,
        )  # fmt: skip


def _draw_scale(axes: Axes, extent: tuple[float, float, float, float], unit: Unit) -> None:
    """Draw a scale bar of a round length in the lower left corner."""
    width, height = extent[1] - extent[0], extent[3] - extent[2]
    power = 10.0 ** np.floor(np.log10(width / 5))
    length = max(digit * power for digit in (1, 2, 5) if digit * power <= width / 5)
    label = f"{length:g} m" if unit == "meter" else f"{length:g} model unit" + ("" if length == 1 else "s")
    x, y = extent[0] + 0.035 * width, extent[2] + 0.035 * height
    dark = [effects.withStroke(linewidth=4, foreground=_DARK)]
    axes.plot((x, x + length), (y, y), color=TEXT, linewidth=2.2, path_effects=dark, zorder=5, solid_capstyle="butt")
    axes.text(
        x, y + 0.012 * height, label, color=TEXT, fontsize=8, va="bottom", zorder=5,
        family=FONT, path_effects=[effects.withStroke(linewidth=2.5, foreground=_DARK)],
    )  # fmt: skip

"""View of the scene from above: points drawn as squares, with the ceiling cut off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qvggt.export.points import PointCloud, bounds_of_most
from qvggt.export.raster import MAX_POINTS, SUPERSAMPLE, draw_points

_MAX_SAMPLE = 20_000
"""Most points used to find the direction of walls."""
_MIN_SHARE_BELOW_CUT = 0.4


@dataclass(frozen=True)
class TopView:
    """Raster image of the scene from above.

    Attributes:
        rgba: [H, W, 4] uint8, transparent where there are no points.
        extent: (left, right, bottom, top) of the raster in plane coordinates: x, and -z of the upright axes.
        cut: whether points above the cameras were removed.
    """

    rgba: np.ndarray
    extent: tuple[float, float, float, float]
    cut: bool


def on_plane(level: np.ndarray) -> np.ndarray:
    """Return plane coordinates [..., 2] of points [..., 3] in upright axes (x right, y up, z backward)."""
    return np.stack((level[..., 0], -level[..., 2]), -1)


def view_extent(places: np.ndarray, cameras: np.ndarray, aspect: float) -> tuple[float, float, float, float]:
    """Return (left, right, bottom, top) around most of ``places`` [N, 2] and all ``cameras`` [S, 2].

    Outliers far beyond the 1st and 99th percentile may fall outside. The result has ``aspect`` (width by height).
    """
    low, high = bounds_of_most(places, cameras)
    center, size = (low + high) / 2, np.maximum((high - low) * 1.12, 1e-6 * (1 + np.abs(low).max()))
    width = max(size[0], size[1] * aspect)
    height = width / aspect
    return (
        float(center[0] - width / 2),
        float(center[0] + width / 2),
        float(center[1] - height / 2),
        float(center[1] + height / 2),
    )


def height_limit(heights: np.ndarray, camera_heights: np.ndarray) -> tuple[float, bool]:
    """Return the height above which points are removed, and whether it removes points above the cameras.

    The cut is a little above the highest camera, as in a floor plan. Without cameras, or if fewer than 40 percent of
    the points are below it (pictures taken from below), only the topmost 5 percent are removed.
    """
    if len(camera_heights):
        low, high = np.percentile(heights, (2, 98))
        limit = camera_heights.max() + 0.05 * (high - low)
        if np.mean(heights <= limit) >= _MIN_SHARE_BELOW_CUT:
            return float(limit), bool(limit < high)
    return float(np.percentile(heights, 95)), False


def upright_turn(places: np.ndarray) -> np.ndarray:
    """Return the rotation [2, 2], by at most 45 degrees, that aligns walls with the page.

    Walls along an axis concentrate in few columns or rows, so this is the angle whose two histograms have the lowest
    entropy; the identity if no angle stands out (no walls).
    """
    if len(places) < 16:
        return np.eye(2)
    low, high = np.percentile(places, (2, 98), axis=0)
    sample = places[((places >= low) & (places <= high)).all(1)] - (low + high) / 2
    reach = float(np.hypot(*(high - low))) / 2 or 1.0
    angles = np.radians(np.arange(-45, 45, 1.0))
    entropy = np.empty(len(angles))
    for i, angle in enumerate(angles):
        turned = sample @ _turn(angle).T
        counts = [np.histogram(turned[:, k], 160, (-reach, reach))[0] for k in (0, 1)]
        shares = np.stack(counts) / max(len(sample), 1)
        entropy[i] = -(shares * np.log(np.maximum(shares, 1e-12))).sum()
    best = int(entropy.argmin())
    return _turn(angles[best]) if entropy[best] < entropy.mean() - 2 * entropy.std() else np.eye(2)


def _turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def view_rotation(cloud: PointCloud | None, level: np.ndarray) -> np.ndarray:
    """Return the rotation [3, 3] from the world to upright axes: ``level`` [3, 3], then aligned with the walls."""
    if cloud is None:
        return level
    sample = cloud.points[:: 1 + len(cloud) // _MAX_SAMPLE].astype(np.float64)
    turn = upright_turn(on_plane(sample @ level.T))
    about_up = np.array([[turn[0, 0], 0, -turn[0, 1]], [0, 1, 0], [-turn[1, 0], 0, turn[1, 1]]])
    return about_up @ level


def draw_top_view(cloud: PointCloud, rotation: np.ndarray, centers: np.ndarray, size_px: tuple[int, int]) -> TopView:
    """Draw a cloud from above.

    Args:
        cloud: at least one point.
        rotation: [3, 3] from the world to upright axes.
        centers: [S, 3] camera positions in upright axes; S may be 0.
        size_px: width and height of the raster.
    """
    step = -(-len(cloud) // MAX_POINTS)
    level = cloud.points[::step].astype(np.float64) @ rotation.T
    colors = cloud.colors[::step]
    limit, cut = height_limit(level[:, 1], centers[:, 1])
    # Sorted by height, so that a larger index is a higher point.
    order = np.flatnonzero(level[:, 1] <= limit)
    order = order[np.argsort(level[order, 1], kind="stable")]
    level, colors = level[order], colors[order]
    extent = view_extent(on_plane(level), on_plane(centers), size_px[0] / size_px[1])
    per_unit = size_px[0] * SUPERSAMPLE / (extent[1] - extent[0])
    pixels = ((on_plane(level) - (extent[0], extent[3])) * (per_unit, -per_unit)).astype(np.float32)
    elevation = (level[:, 1] * per_unit).astype(np.float32)
    del level, order  # drawing needs their memory
    return TopView(draw_points(pixels, elevation, colors, size_px), extent, cut)

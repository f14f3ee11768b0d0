"""View of the scene from above: points drawn as splats, with the ceiling cut off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qvggt.export.points import PointCloud

_MAX_POINTS, _MAX_SAMPLE = 400_000, 20_000
"""Upper limits of points drawn, and of points used to find the direction of walls."""
_MIN_SHARE_BELOW_CUT = 0.4
_SUPERSAMPLE = 2
_CELL_PX = 12
_SIDES_PX = (2, 3, 5, 8, 12, 16)
_OVERLAP = 1.8
_CLOSING_PASSES, _RELIEF_PX = 3, 3 * _SUPERSAMPLE
_BAND_PX = 128 * _SUPERSAMPLE
"""Rows drawn at a time."""


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
    groups = [cameras]
    if len(places):
        low, high = np.percentile(places, (1, 99), axis=0)
        slack = 0.15 * (high - low)
        groups.append(np.stack((np.maximum(places.min(0), low - slack), np.minimum(places.max(0), high + slack))))
    around = np.concatenate(groups)
    low, high = around.min(0), around.max(0)
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
    step = -(-len(cloud) // _MAX_POINTS)
    level = cloud.points[::step].astype(np.float64) @ rotation.T
    colors = cloud.colors[::step]
    limit, cut = height_limit(level[:, 1], centers[:, 1])
    # Sorted by height, so that a larger index is a higher point.
    order = np.flatnonzero(level[:, 1] <= limit)
    order = order[np.argsort(level[order, 1], kind="stable")]
    level, colors = level[order], colors[order]
    extent = view_extent(on_plane(level), on_plane(centers), size_px[0] / size_px[1])
    width, height = (side * _SUPERSAMPLE for side in size_px)
    per_unit = width / (extent[1] - extent[0])
    splats = _Splats.around((on_plane(level) - (extent[0], extent[3])) * (per_unit, -per_unit), (width, height))
    elevation = (level[:, 1] * per_unit).astype(np.float32)
    bands = (range(top, min(top + _BAND_PX, height)) for top in range(0, height, _BAND_PX))
    return TopView(np.concatenate([_draw_band(splats, rows, elevation, colors) for rows in bands]), extent, cut)


@dataclass(frozen=True)
class _Splats:
    """Square splats of the points, each slightly larger than the local point spacing.

    Surfaces then have no holes and edges stay sharp.

    Attributes:
        size: width and height of the raster.
        point: [N] indices of the points in the raster, ascending.
        corner: [N, 2] int32 top left pixels, which may be outside.
        side: [N] side lengths in pixels.
    """

    size: tuple[int, int]
    point: np.ndarray
    corner: np.ndarray
    side: np.ndarray

    @classmethod
    def around(cls, pixels: np.ndarray, size: tuple[int, int]) -> _Splats:
        """Return the splats of ``pixels`` [P, 2] that are inside the raster."""
        point = np.flatnonzero(((pixels >= 0) & (pixels < size)).all(1))
        side = _splat_sides(pixels[point], size)
        return cls(size, point, np.floor(pixels[point] - (side[:, None] - 1) / 2).astype(np.int32), side)

    def topmost(self, rows: range) -> np.ndarray:
        """Return [rows, W] int32, the highest point whose splat covers each pixel, or -1."""
        width, height = self.size
        first, last = max(rows.start, 0), min(rows.stop, height) - 1
        index = np.full((len(rows), width), -1, np.int32)
        here = (self.corner[:, 1] <= last) & (self.corner[:, 1] + self.side > first)
        for side in np.unique(self.side[here]):
            some = here & (self.side == side)
            x = np.clip(self.corner[some, :1] + np.tile(np.arange(side), side), 0, width - 1)
            y = np.clip(self.corner[some, 1:] + np.repeat(np.arange(side), side), first, last) - rows.start
            layer = np.full_like(index, -1)
            # For repeated indices numpy keeps the last value, which is the highest point.
            layer[y.ravel(), x.ravel()] = np.repeat(self.point[some], side * side)
            np.maximum(index, layer, out=index)
        return index


def _draw_band(splats: _Splats, rows: range, elevation: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Return RGBA of supersampled rows, computed with the rows around them that affect them."""
    around = _CLOSING_PASSES + _RELIEF_PX
    index = _close_pinholes(splats.topmost(range(rows.start - around, rows.stop + around)))
    shade = _relief(np.where(index >= 0, elevation[index], np.float32(np.nan)))[around:-around]
    index = index[around:-around]
    return _shrink(colors[index] * shade[..., None], index >= 0)


def _splat_sides(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return [N] the splat size of each point in pixels, from the point density on a coarse grid."""
    columns, rows = (-(-side // _CELL_PX) for side in size)
    x, y = (pixels // _CELL_PX).astype(np.int64).T
    counts = np.bincount(y * columns + x, minlength=rows * columns).reshape(rows, columns)
    # Averaged over the cells around, or outliers beside a dense wall would become large blocks.
    padded = np.pad(counts, 1, mode="edge")
    padded = padded[:-2] + padded[1:-1] + padded[2:]
    density = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:])[y, x] / (3 * _CELL_PX) ** 2
    steps = np.array(_SIDES_PX)
    return steps[np.abs(_OVERLAP / np.sqrt(density[:, None]) - steps).argmin(1)]


def _close_pinholes(index: np.ndarray) -> np.ndarray:
    """Fill empty pixels that have at least 5 filled neighbors with the highest of them."""
    for _ in range(_CLOSING_PASSES):
        padded = np.pad(index, 1, constant_values=-1)
        taken = (padded >= 0).astype(np.uint8)
        count = taken[:-2] + taken[1:-1] + taken[2:]
        highest = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
        count = count[:, :-2] + count[:, 1:-1] + count[:, 2:]
        highest = np.maximum(np.maximum(highest[:, :-2], highest[:, 1:-1]), highest[:, 2:])
        index = np.where((index < 0) & (count >= 5), highest, index)
    return index


def _relief(elevation: np.ndarray) -> np.ndarray:
    """Return [H, W] a shade in 0..1 that darkens pixels next to higher ones.

    Args:
        elevation: [H, W] float32 in pixels, NaN where empty.
    """
    shade = np.zeros_like(elevation)
    radius = _RELIEF_PX
    padded = np.pad(elevation, radius, constant_values=np.nan)
    height, width = elevation.shape
    for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1), (-0.7, -0.7), (-0.7, 0.7), (0.7, -0.7), (0.7, 0.7)):
        top, left = radius + round(dy * radius), radius + round(dx * radius)
        rise = padded[top : top + height, left : left + width] - elevation
        # Only slopes above 45 degrees count, so that noise on a flat surface stays invisible.
        shade += np.clip(np.nan_to_num(rise) / radius - 1, 0, 3) / 8
    return np.exp(-0.5 * shade)


def _shrink(rgb: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Average blocks of supersampled pixels into RGBA uint8."""
    blocks = np.dstack((rgb * taken[..., None], taken)).astype(np.float32)
    steps = range(_SUPERSAMPLE)
    mean = sum(blocks[y::_SUPERSAMPLE, x::_SUPERSAMPLE] for y in steps for x in steps) / np.float32(_SUPERSAMPLE**2)
    color = mean[..., :3] / np.maximum(mean[..., 3:], 1e-9)
    return np.rint(np.dstack((np.clip(color, 0, 255), mean[..., 3] * 255))).astype(np.uint8)

"""A plan of the scene seen from above: points as splats, upright, cut so that the ceiling hides nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qvggt.export.points import PointCloud

_MAX_POINTS, _MAX_SAMPLE = 400_000, 20_000
"""The most points that are drawn, and that say how walls run."""
_MIN_SHARE_BELOW_CUT = 0.4
_SUPERSAMPLE = 2
_CELL_PX = 12
_SIDES_PX = (2, 3, 5, 8, 12, 16)
_OVERLAP = 1.8
_CLOSING_ROUNDS, _RELIEF_PX = 3, 3 * _SUPERSAMPLE
_BAND_PX = 128 * _SUPERSAMPLE
"""Rows of the raster that are drawn at a time."""


@dataclass(frozen=True)
class Plan:
    """A raster seen from above.

    Attributes:
        rgba: [H, W, 4] uint8, transparent where there are no points.
        extent: (left, right, bottom, top) of the raster on the plane: x, and -z of the upright axes.
        cut: whether points above the cameras were left out.
    """

    rgba: np.ndarray
    extent: tuple[float, float, float, float]
    cut: bool


def on_plan(level: np.ndarray) -> np.ndarray:
    """Return plan coordinates [..., 2] of points [..., 3] in upright axes (x right, y up, z backward)."""
    return np.stack((level[..., 0], -level[..., 2]), -1)


def plan_extent(places: np.ndarray, cameras: np.ndarray, aspect: float) -> tuple[float, float, float, float]:
    """Return (left, right, bottom, top) around most of ``places`` [N, 2] and all ``cameras`` [S, 2].

    Strays may fall outside: places far beyond the outermost hundredths. The result has ``aspect`` (width by height).
    """
    groups = [cameras]
    if len(places):
        low, high = np.percentile(places, (1, 99), axis=0)
        slack = 0.15 * (high - low)
        groups.append(np.stack((np.maximum(places.min(0), low - slack), np.minimum(places.max(0), high + slack))))
    around = np.concatenate(groups)
    low, high = around.min(0), around.max(0)
    centre, size = (low + high) / 2, np.maximum((high - low) * 1.12, 1e-6 * (1 + np.abs(low).max()))
    width = max(size[0], size[1] * aspect)
    height = width / aspect
    return (
        float(centre[0] - width / 2),
        float(centre[0] + width / 2),
        float(centre[1] - height / 2),
        float(centre[1] + height / 2),
    )


def height_limit(heights: np.ndarray, camera_heights: np.ndarray) -> tuple[float, bool]:
    """Return the height above which points are left out, and whether the cameras decided it.

    A plan of a room is cut a little above the eye, as an architect's is. Where that would leave too little (pictures
    taken from below), and without cameras, only the topmost twentieth goes.
    """
    if len(camera_heights):
        low, high = np.percentile(heights, (2, 98))
        limit = camera_heights.max() + 0.05 * (high - low)
        if np.mean(heights <= limit) >= _MIN_SHARE_BELOW_CUT:
            return float(limit), bool(limit < high)
    return float(np.percentile(heights, 95)), False


def upright_turn(places: np.ndarray) -> np.ndarray:
    """Return the rotation [2, 2], by at most 45 degrees, that makes walls run along the page.

    Walls that run along an axis pile up in few columns or rows, so the turn is the one whose two histograms have the
    least entropy. Where none is clearly better than no turn (no walls), nothing is turned.
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


def plan_rotation(cloud: PointCloud | None, level: np.ndarray) -> np.ndarray:
    """Return the rotation [3, 3] from the world to the plan's upright axes: ``level`` [3, 3], turned to the walls."""
    if cloud is None:
        return level
    sample = cloud.points[:: 1 + len(cloud) // _MAX_SAMPLE].astype(np.float64)
    turn = upright_turn(on_plan(sample @ level.T))
    about_up = np.array([[turn[0, 0], 0, -turn[0, 1]], [0, 1, 0], [-turn[1, 0], 0, turn[1, 1]]])
    return about_up @ level


def draw_plan(cloud: PointCloud, rotation: np.ndarray, centres: np.ndarray, size_px: tuple[int, int]) -> Plan:
    """Draw a cloud from above.

    Args:
        cloud: at least one point.
        rotation: [3, 3] from the world to upright axes.
        centres: [S, 3] camera positions in upright axes; S may be 0.
        size_px: width and height of the raster.
    """
    step = -(-len(cloud) // _MAX_POINTS)
    level = cloud.points[::step].astype(np.float64) @ rotation.T
    colours = cloud.colours[::step]
    limit, cut = height_limit(level[:, 1], centres[:, 1])
    # Lowest first, so that a larger index is a higher point.
    order = np.flatnonzero(level[:, 1] <= limit)
    order = order[np.argsort(level[order, 1], kind="stable")]
    level, colours = level[order], colours[order]
    extent = plan_extent(on_plan(level), on_plan(centres), size_px[0] / size_px[1])
    width, height = (side * _SUPERSAMPLE for side in size_px)
    per_unit = width / (extent[1] - extent[0])
    squares = _Squares.around((on_plan(level) - (extent[0], extent[3])) * (per_unit, -per_unit), (width, height))
    elevation = (level[:, 1] * per_unit).astype(np.float32)
    bands = (range(top, min(top + _BAND_PX, height)) for top in range(0, height, _BAND_PX))
    return Plan(np.concatenate([_draw_band(squares, rows, elevation, colours) for rows in bands]), extent, cut)


@dataclass(frozen=True)
class _Squares:
    """The squares of pixels that points cover, each somewhat larger than the points around it are apart.

    So surfaces close and edges stay crisp.

    Attributes:
        size: width and height of the raster.
        point: [N] indices of the points in the raster, ascending.
        corner: [N, 2] int32 left upper pixels, which may lie outside.
        side: [N] in pixels.
    """

    size: tuple[int, int]
    point: np.ndarray
    corner: np.ndarray
    side: np.ndarray

    @classmethod
    def around(cls, pixels: np.ndarray, size: tuple[int, int]) -> _Squares:
        """Return the squares around ``pixels`` [P, 2], those outside the raster left out."""
        point = np.flatnonzero(((pixels >= 0) & (pixels < size)).all(1))
        side = _splat_sides(pixels[point], size)
        return cls(size, point, np.floor(pixels[point] - (side[:, None] - 1) / 2).astype(np.int32), side)

    def topmost(self, rows: range) -> np.ndarray:
        """Return [rows, W] int32 the last point whose square covers each pixel, -1 where there is none."""
        width, height = self.size
        first, last = max(rows.start, 0), min(rows.stop, height) - 1
        index = np.full((len(rows), width), -1, np.int32)
        here = (self.corner[:, 1] <= last) & (self.corner[:, 1] + self.side > first)
        for side in np.unique(self.side[here]):
            some = here & (self.side == side)
            x = np.clip(self.corner[some, :1] + np.tile(np.arange(side), side), 0, width - 1)
            y = np.clip(self.corner[some, 1:] + np.repeat(np.arange(side), side), first, last) - rows.start
            layer = np.full_like(index, -1)
            # Where places repeat, numpy keeps the last value, which is the highest point.
            layer[y.ravel(), x.ravel()] = np.repeat(self.point[some], side * side)
            np.maximum(index, layer, out=index)
        return index


def _draw_band(squares: _Squares, rows: range, elevation: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Return RGBA of supersampled rows: only so many are held at a time, with those around that have a say."""
    around = _CLOSING_ROUNDS + _RELIEF_PX
    index = _close_pinholes(squares.topmost(range(rows.start - around, rows.stop + around)))
    shade = _relief(np.where(index >= 0, elevation[index], np.float32(np.nan)))[around:-around]
    index = index[around:-around]
    return _shrink(colours[index] * shade[..., None], index >= 0)


def _splat_sides(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return [N] the side of each point's square in pixels, from how many points lie near it on a coarse grid."""
    columns, rows = (-(-side // _CELL_PX) for side in size)
    x, y = (pixels // _CELL_PX).astype(np.int64).T
    counts = np.bincount(y * columns + x, minlength=rows * columns).reshape(rows, columns)
    # With the cells around, or strays beside a dense wall would become large blocks.
    padded = np.pad(counts, 1, mode="edge")
    padded = padded[:-2] + padded[1:-1] + padded[2:]
    density = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:])[y, x] / (3 * _CELL_PX) ** 2
    steps = np.array(_SIDES_PX)
    return steps[np.abs(_OVERLAP / np.sqrt(density[:, None]) - steps).argmin(1)]


def _close_pinholes(index: np.ndarray) -> np.ndarray:
    """Give an empty pixel with most of its neighbours taken the highest of these."""
    for _ in range(_CLOSING_ROUNDS):
        padded = np.pad(index, 1, constant_values=-1)
        taken = (padded >= 0).astype(np.uint8)
        count = taken[:-2] + taken[1:-1] + taken[2:]
        highest = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
        count = count[:, :-2] + count[:, 1:-1] + count[:, 2:]
        highest = np.maximum(np.maximum(highest[:, :-2], highest[:, 1:-1]), highest[:, 2:])
        index = np.where((index < 0) & (count >= 5), highest, index)
    return index


def _relief(elevation: np.ndarray) -> np.ndarray:
    """Return [H, W] a shade in 0..1 that darkens what lies beside something higher, so that shapes stand out.

    Args:
        elevation: [H, W] float32 in pixels, NaN where there is nothing.
    """
    shade = np.zeros_like(elevation)
    radius = _RELIEF_PX
    padded = np.pad(elevation, radius, constant_values=np.nan)
    height, width = elevation.shape
    for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1), (-0.7, -0.7), (-0.7, 0.7), (0.7, -0.7), (0.7, 0.7)):
        top, left = radius + round(dy * radius), radius + round(dx * radius)
        rise = padded[top : top + height, left : left + width] - elevation
        # Only what is steeper than 45 degrees counts: noise on a flat surface must not show as dirt.
        shade += np.clip(np.nan_to_num(rise) / radius - 1, 0, 3) / 8
    return np.exp(-0.5 * shade)


def _shrink(rgb: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Average blocks of supersampled pixels into RGBA uint8."""
    blocks = np.dstack((rgb * taken[..., None], taken)).astype(np.float32)
    steps = range(_SUPERSAMPLE)
    mean = sum(blocks[y::_SUPERSAMPLE, x::_SUPERSAMPLE] for y in steps for x in steps) / np.float32(_SUPERSAMPLE**2)
    colour = mean[..., :3] / np.maximum(mean[..., 3:], 1e-9)
    return np.rint(np.dstack((np.clip(colour, 0, 255), mean[..., 3] * 255))).astype(np.uint8)

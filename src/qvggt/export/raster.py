"""Points drawn as squares: one raster image, in which nearer points hide others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SUPERSAMPLE = 2
MAX_POINTS = 400_000
"""Most points that a view draws; of more, every second, third and so on is left."""
_CELL_PX = 12
_SIDES_PX = (2, 3, 5, 8, 12, 16, 22, 30)
_CLOSING_PASSES, _RELIEF_PX = 3, 3 * SUPERSAMPLE
_BAND_PX = 128 * SUPERSAMPLE
"""Rows drawn at a time."""


def draw_points(
    pixels: np.ndarray, nearness: np.ndarray, colors: np.ndarray, size_px: tuple[int, int], *, overlap: float = 1.8
) -> np.ndarray:
    """Return [H, W, 4] uint8, transparent where there are no points; pixels behind a step in nearness are darker.

    Args:
        pixels: [P, 2] positions in a raster that is ``SUPERSAMPLE`` times as wide and high, from the top left corner.
        nearness: [P] float32 ascending, in the raster's pixels.
        colors: [P, 3] uint8.
        size_px: width and height of the result.
        overlap: side of a square in spacings of points; a larger one closes surfaces in front of others.
    """
    width, height = (side * SUPERSAMPLE for side in size_px)
    squares = _Squares.around(pixels, (width, height), overlap)
    bands = (range(top, min(top + _BAND_PX, height)) for top in range(0, height, _BAND_PX))
    return np.concatenate([_draw_band(squares, rows, nearness, colors) for rows in bands])


@dataclass(frozen=True)
class _Squares:
    """Squares around the points, each slightly larger than the local point spacing.

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
    def around(cls, pixels: np.ndarray, size: tuple[int, int], overlap: float) -> _Squares:
        """Return the squares of ``pixels`` [P, 2] that are inside the raster."""
        point = np.flatnonzero(((pixels >= 0) & (pixels < size)).all(1)).astype(np.int32)
        side = _square_sides(pixels[point], size, overlap)
        return cls(size, point, np.floor(pixels[point] - (side[:, None] - 1) / 2).astype(np.int32), side)

    def nearest(self, rows: range) -> np.ndarray:
        """Return [rows, W] int32, the nearest point whose square covers each pixel, or -1."""
        width, height = self.size
        first, last = max(rows.start, 0), min(rows.stop, height) - 1
        index = np.full((len(rows), width), -1, np.int32)
        here = (self.corner[:, 1] <= last) & (self.corner[:, 1] + self.side > first)
        for side in np.unique(self.side[here]):
            some = here & (self.side == side)
            steps = np.arange(side, dtype=np.int32)
            x = np.clip(self.corner[some, :1] + np.tile(steps, side), 0, width - 1)
            y = np.clip(self.corner[some, 1:] + np.repeat(steps, side), first, last) - rows.start
            y *= width
            y += x
            layer = np.full_like(index, -1)
            # For repeated indices numpy keeps the last value, which is the nearest point.
            layer.reshape(-1)[y.reshape(-1)] = np.repeat(self.point[some], side * side)
            np.maximum(index, layer, out=index)
        return index


def _draw_band(squares: _Squares, rows: range, nearness: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Return RGBA of supersampled rows, computed with the rows around them that affect them."""
    around = _CLOSING_PASSES + _RELIEF_PX
    index = _close_pinholes(squares.nearest(range(rows.start - around, rows.stop + around)))
    shade = _relief(np.where(index >= 0, nearness[index], np.float32(np.nan)))[around:-around]
    index = index[around:-around]
    return _shrink(colors[index] * shade[..., None], index >= 0)


def _square_sides(pixels: np.ndarray, size: tuple[int, int], overlap: float) -> np.ndarray:
    """Return [N] the side of each point in pixels, from the point density on a coarse grid."""
    columns, rows = (-(-side // _CELL_PX) for side in size)
    x, y = (pixels // _CELL_PX).astype(np.int64).T
    counts = np.bincount(y * columns + x, minlength=rows * columns).reshape(rows, columns)
    # Averaged over the cells around, or outliers beside a dense wall would become large blocks.
    padded = np.pad(counts, 1, mode="edge")
    padded = padded[:-2] + padded[1:-1] + padded[2:]
    density = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:])[y, x] / (3 * _CELL_PX) ** 2
    steps = np.array(_SIDES_PX)
    return steps[np.searchsorted((steps[:-1] + steps[1:]) / 2, overlap / np.sqrt(density))]  # the nearest one


def _close_pinholes(index: np.ndarray) -> np.ndarray:
    """Fill empty pixels that have at least 5 filled neighbors with the nearest of them."""
    for _ in range(_CLOSING_PASSES):
        padded = np.pad(index, 1, constant_values=-1)
        taken = (padded >= 0).astype(np.uint8)
        count = taken[:-2] + taken[1:-1] + taken[2:]
        nearest = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
        count = count[:, :-2] + count[:, 1:-1] + count[:, 2:]
        nearest = np.maximum(np.maximum(nearest[:, :-2], nearest[:, 1:-1]), nearest[:, 2:])
        index = np.where((index < 0) & (count >= 5), nearest, index)
    return index


def _relief(nearness: np.ndarray) -> np.ndarray:
    """Return [H, W] a shade in 0..1 that darkens pixels next to nearer ones.

    Args:
        nearness: [H, W] float32 in pixels, NaN where empty.
    """
    shade = np.zeros_like(nearness)
    radius = _RELIEF_PX
    padded = np.pad(nearness, radius, constant_values=np.nan)
    height, width = nearness.shape
    for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1), (-0.7, -0.7), (-0.7, 0.7), (0.7, -0.7), (0.7, 0.7)):
        top, left = radius + round(dy * radius), radius + round(dx * radius)
        rise = padded[top : top + height, left : left + width] - nearness
        # Only slopes above 45 degrees count, so that noise on a flat surface stays invisible.
        shade += np.clip(np.nan_to_num(rise) / radius - 1, 0, 3) / 8
    return np.exp(-0.5 * shade)


def _shrink(rgb: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Average blocks of supersampled pixels into RGBA uint8."""
    blocks = np.dstack((rgb * taken[..., None], taken)).astype(np.float32)
    steps = range(SUPERSAMPLE)
    mean = sum(blocks[y::SUPERSAMPLE, x::SUPERSAMPLE] for y in steps for x in steps) / np.float32(SUPERSAMPLE**2)
    color = mean[..., :3] / np.maximum(mean[..., 3:], 1e-9)
    return np.rint(np.dstack((np.clip(color, 0, 255), mean[..., 3] * 255))).astype(np.uint8)

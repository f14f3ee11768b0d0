"""Free view of a scene: in perspective, from behind and above its cameras, turned a little to the side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qvggt.export.points import PointCloud, bounds_of_most
from qvggt.export.raster import MAX_POINTS, SUPERSAMPLE, draw_points

_TURN_RAD, _ELEVATION_RAD = 0.42, 0.52
_SURROUNDING = 0.35
"""Distance of the cameras' mean from the scene's middle, in their spread, below which they surround the scene."""
_CEILING_BAND, _CEILING_SHARE = 0.1, 0.2
"""Share of the scene's height in which a ceiling is, and the share of all points from which on there is one."""
FOCAL = 1.15
"""Focal length in shorter sides of the picture."""
_MARGIN, _ROUNDS = 1.1, 8
"""Room around the scene, and rounds of centering it."""
_FITTED_POINTS = 20_000
_OVERLAP, _RELIEF = 2.7, 0.35
"""Side of squares in spacings of all points, hidden ones included, and weight of steps in distance in their shading."""


@dataclass(frozen=True)
class Viewpoint:
    """Perspective camera in upright axes.

    Attributes:
        eye: [3] position.
        axes: [3, 3] rows to the right, up, and from the scene to the eye.
        focal: in pixels.
        size: width and height of the picture in pixels.
    """

    eye: np.ndarray
    axes: np.ndarray
    focal: float
    size: tuple[int, int]

    @classmethod
    def fitting(cls, points: np.ndarray, centers: np.ndarray, size: tuple[int, int]) -> Viewpoint:
        """Return the viewpoint at ``view_angles`` that sees almost all points [N, 3] and all camera ``centers`` [S, 3].

        ``view_angles`` are about the middle of the points, which may be none if there are cameras.
        """
        points = points[:: 1 + len(points) // _FITTED_POINTS]
        low, high = bounds_of_most(points, centers)
        middle = (low + high) / 2
        azimuth, elevation = view_angles(middle if len(points) else centers.mean(0), centers)
        axes = view_axes(azimuth, elevation)
        x, y, z = (np.concatenate((np.clip(points, low, high), centers)) @ axes.T).T
        focal, reach = FOCAL * min(size), float(np.linalg.norm(high - low)) or 1.0
        eye = [_nearest_eye(side, z, 2 * _MARGIN * focal / count) for side, count in ((x, size[0]), (y, size[1]))]
        away = max(eye[0][1], eye[1][1], float(z.max()) + 0.01 * reach)
        place = [_centered(side, away - z, start) for side, (start, _) in zip((x, y), eye, strict=True)]
        return cls(np.array((*place, away)) @ axes, axes, focal, size)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels [N, 2], from the top left corner, and distances [N] along the view of points [N, 3]."""
        local = (points - self.eye) @ self.axes.T
        distance = np.maximum(-local[:, 2], 1e-9)
        return local[:, :2] / distance[:, None] * (self.focal, -self.focal) + np.array(self.size) / 2, -local[:, 2]


@dataclass(frozen=True)
class FreeView:
    """Picture of the scene in perspective.

    Attributes:
        rgba: [H, W, 4] uint8, transparent where there are no points.
        viewpoint: of the picture.
        cut: whether a ceiling was removed.
    """

    rgba: np.ndarray
    viewpoint: Viewpoint
    cut: bool


def view_angles(middle: np.ndarray, centers: np.ndarray) -> tuple[float, float]:
    """Return the azimuth and elevation, in radians, at which a viewer sees the scene as its cameras do.

    Azimuth 0 is on the +z side, as the first camera is; pi/2 on the +x side.

    Args:
        middle: [3] middle of the scene in upright axes (x right, y up, z backward).
        centers: [S, 3] camera positions in upright axes; S may be 0.
    """
    azimuth = 0.0
    if len(centers):
        away = (centers.mean(0) - middle)[[0, 2]]
        spread = np.linalg.norm((centers - centers.mean(0))[:, [0, 2]], axis=1).max()
        if np.linalg.norm(away) > _SURROUNDING * spread:
            azimuth = float(np.arctan2(*away))
    return azimuth + _TURN_RAD, _ELEVATION_RAD


def view_axes(azimuth: float, elevation: float) -> np.ndarray:
    """Return the axes [3, 3] of a viewpoint: rows to the right, up, and from the scene to the eye."""
    right = np.array([np.cos(azimuth), 0, -np.sin(azimuth)])
    back = np.array([np.sin(azimuth), 0, np.cos(azimuth)]) * np.cos(elevation) + (0, np.sin(elevation), 0)
    return np.stack((right, np.cross(back, right), back))


def height_below_ceiling(heights: np.ndarray) -> float:
    """Return the height below which a viewer above the cameras sees in: infinity if there is no ceiling."""
    low, high = np.percentile(heights, (1, 99))
    limit = high - _CEILING_BAND * (high - low)
    return float(limit) if np.mean(heights > limit) > _CEILING_SHARE else np.inf


def draw_free_view(cloud: PointCloud, rotation: np.ndarray, centers: np.ndarray, size_px: tuple[int, int]) -> FreeView:
    """Draw a cloud in perspective, without its ceiling.

    Args:
        cloud: at least one point.
        rotation: [3, 3] from the world to upright axes.
        centers: [S, 3] camera positions in upright axes; S may be 0.
        size_px: width and height of the picture.
    """
    step = -(-len(cloud) // MAX_POINTS)
    level = cloud.points[::step].astype(np.float64) @ rotation.T
    limit = height_below_ceiling(level[:, 1])
    inside = level[:, 1] <= limit
    viewpoint = Viewpoint.fitting(level[inside], centers, size_px)
    colors = cloud.colors[::step][inside]
    level = level[inside].astype(np.float32)
    return FreeView(draw_from(viewpoint, level, colors), viewpoint, cut=bool(np.isfinite(limit)))


def draw_from(viewpoint: Viewpoint, points: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Return [H, W, 4] uint8, transparent where there are no points: points [N, 3] with colors [N, 3] uint8."""
    pixels, distance = viewpoint.project(points)
    # Sorted by distance, so that a larger index is a nearer point.
    order = np.flatnonzero(distance > 1e-6)
    order = order[np.argsort(-distance[order], kind="stable")]
    scale = _RELIEF * SUPERSAMPLE * viewpoint.focal / np.median(distance[order])
    nearness = (-scale * distance[order]).astype(np.float32)
    pixels, colors = SUPERSAMPLE * pixels[order].astype(np.float32), colors[order]
    del distance, order  # drawing needs their memory
    return draw_points(pixels, nearness, colors, viewpoint.size, overlap=_OVERLAP)


def _nearest_eye(side: np.ndarray, depth: np.ndarray, steep: float) -> tuple[float, float]:
    """Return the eye, sideways and along the view, that is nearest to points [N] and sees all of them.

    Each point is seen if depth + steep * |side - eye's side| <= eye's depth; at that eye, both extremes are equalities.
    """
    one, other = float((depth + steep * side).max()), float((depth - steep * side).max())
    return (one - other) / 2 / steep, (one + other) / 2


def _centered(side: np.ndarray, distance: np.ndarray, eye: float) -> float:
    """Return the eye's place sideways, near ``eye``, from which points [N] reach equally far to both sides."""
    for _ in range(_ROUNDS):
        slope = (side - eye) / distance
        eye += float((slope.max() + slope.min()) / 2 * distance.min())
    return eye

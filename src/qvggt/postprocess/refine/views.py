"""Working cameras of a refinement: pinholes for the searched images; triangulation and reprojection errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from qvggt.postprocess.cameras import with_cameras
from qvggt.postprocess.frames import camera_centers, cameras_of, original_intrinsics
from qvggt.postprocess.refine.tracks import Tracks
from qvggt.types import Prediction

WORST_PX = 100.0
"""Reprojection errors are cut here, and points behind a camera have this error."""

_UNDISTORTION_STEPS = 10

_STEPS = 5
"""Steps of iteratively reweighted triangulation."""


@dataclass(frozen=True)
class Views:
    """Cameras of S frames for their searched images.

    Attributes:
        cam_from_world: [S, 3, 4] float64.
        focal: [S, 2] float64, in pixels.
        center: [S, 2] float64, the principal point.
        radial: [S] float64, distortion k: a point at radius r of the image plane at depth 1 is seen at r (1 + k r^2).
    """

    cam_from_world: np.ndarray
    focal: np.ndarray
    center: np.ndarray
    radial: np.ndarray

    def __len__(self) -> int:
        return len(self.focal)

    def merged(self, other: Views, frames: np.ndarray) -> Views:
        """Return these cameras, with those of ``other`` for some frames [S] bool."""
        poses = np.where(frames[:, None, None], other.cam_from_world, self.cam_from_world)
        focal, radial = np.where(frames[:, None], other.focal, self.focal), np.where(frames, other.radial, self.radial)
        return replace(self, cam_from_world=poses, focal=focal, radial=radial)

    def pinholes(self) -> Views:
        """Return the cameras without distortion that see the image plane most like these: with other focal lengths."""
        side = np.linspace(-1, 1, 33)
        squares = (self.center[:, 0, None, None] * side / self.focal[:, 0, None, None]) ** 2
        squares = squares + (self.center[:, 1, None, None] * side[:, None] / self.focal[:, 1, None, None]) ** 2
        factor = 1 + self.radial * (squares**2).sum((1, 2)) / squares.sum((1, 2))
        return replace(self, focal=self.focal * factor[:, None], radial=np.zeros(len(self)))

    def rays(self, tracks: Tracks) -> np.ndarray:
        """Return the undistorted observations [N, 2] on the image plane at depth 1."""
        seen = (tracks.xy - self.center[tracks.frame]) / self.focal[tracks.frame]
        radial, rays = self.radial[tracks.frame, None], seen
        for _ in range(_UNDISTORTION_STEPS if self.radial.any() else 0):
            rays = seen / np.maximum(1 + radial * (rays**2).sum(1, keepdims=True), 0.1)
        return rays


def views_of(prediction: Prediction, sizes: Sequence[tuple[int, int]]) -> Views:
    """Return the cameras of a prediction for images of its photographs that were resized to ``sizes``."""
    cameras, intrinsics = cameras_of(prediction)
    lenses = np.stack(
        [
            np.diag([*_factors(frame.original_size, size), 1.0]) @ original_intrinsics(lens, frame)
            for lens, frame, size in zip(intrinsics, prediction.maps, sizes, strict=True)
        ]
    )
    return Views(cameras, lenses[:, (0, 1), (0, 1)], lenses[:, :2, 2], np.zeros(len(cameras)))


def with_views(
    prediction: Prediction, views: Views, sizes: Sequence[tuple[int, int]], scales: np.ndarray
) -> Prediction:
    """Return a prediction with other cameras, all pinholes, and scaled depth maps; see ``with_cameras``.

    Args:
        prediction: with cameras.
        views: the new cameras.
        sizes: (width, height) of the searched image of each frame.
        scales: [S], a factor for each depth map.
    """
    _, intrinsics = cameras_of(prediction)
    for index, (frame, size) in enumerate(zip(prediction.maps, sizes, strict=True)):
        factors = np.array(_factors(frame.original_size, size))
        intrinsics[index, (0, 1), (0, 1)] = views.focal[index] / factors * frame.scale
    return with_cameras(prediction, views.cam_from_world, intrinsics, scales)


def _factors(original: tuple[int, int], size: tuple[int, int]) -> tuple[float, float]:
    return size[0] / original[0], size[1] / original[1]


def triangulate(views: Views, tracks: Tracks, robust_px: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the points [count, 3] of tracks, and the reprojection error [N] of each observation in pixels.

    Linear triangulation, reweighted to reprojection errors with a Cauchy loss; an observation that is far off does not
    pull its point. Points behind a camera have an infinite error there.
    """
    poses = views.cam_from_world[tracks.frame]  # [N, 3, 4]
    focal = views.focal[tracks.frame]
    normal = views.rays(tracks)
    rows = (normal[:, :, None] * poses[:, 2:, :] - poses[:, :2, :]) * focal[:, :, None]  # [N, 2, 4]
    weights = np.ones(len(tracks.track))
    points, depth, errors = np.zeros((tracks.count, 3)), np.zeros_like(weights), np.full_like(weights, np.inf)
    for _ in range(_STEPS):
        points = _solved(rows, weights, tracks)
        depth = np.einsum("nj,nj->n", poses[:, 2, :3], points[tracks.track]) + poses[:, 2, 3]
        residual = np.einsum("nij,nj->ni", rows[:, :, :3], points[tracks.track]) + rows[:, :, 3]
        safe = np.maximum(np.abs(depth), 1e-9)
        errors = np.linalg.norm(residual, axis=1) / safe
        weights = 1.0 / (safe**2 * (1.0 + (errors / robust_px) ** 2))
    return points, np.where(depth > 1e-9, errors, np.inf)


def _solved(rows: np.ndarray, weights: np.ndarray, tracks: Tracks) -> np.ndarray:
    """Return the points [count, 3] that minimize the weighted squares of ``rows @ (x, 1)``."""
    products = np.einsum("nij,nik,n->njk", rows[:, :, :3], rows, weights)  # [N, 3, 4]
    starts = np.searchsorted(tracks.track, np.arange(tracks.count))
    sums = np.add.reduceat(products, starts, axis=0) if tracks.count else np.empty((0, 3, 4))
    matrix = sums[:, :, :3]
    trace = np.trace(matrix, axis1=1, axis2=2)
    matrix = matrix + (1e-12 * trace + 1e-300)[:, None, None] * np.eye(3)
    return np.linalg.solve(matrix, -sums[:, :, 3:])[:, :, 0]


def widest_angles(views: Views, tracks: Tracks, points: np.ndarray) -> np.ndarray:
    """Return the angle [count] in degrees between the rays of a track's first and its farthest other view."""
    rays = camera_centers(views.cam_from_world)[tracks.frame] - points[tracks.track]
    rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-12)
    first = rays[np.searchsorted(tracks.track, np.arange(tracks.count))]
    cosine = np.einsum("nj,nj->n", rays, first[tracks.track])
    least = np.full(tracks.count, 1.0)
    np.minimum.at(least, tracks.track, cosine)
    return np.degrees(np.arccos(np.clip(least, -1, 1)))

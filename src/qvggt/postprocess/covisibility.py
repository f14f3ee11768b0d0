"""Covisibility from predicted depth: which frames see a point, and how much two frames have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qvggt.postprocess.frames import cameras_of, frame_photo_mask
from qvggt.types import Prediction, QvggtError

DEPTH_TOLERANCE = 0.05
"""Relative difference of depth up to which a point lies on the surface that a frame sees."""


@dataclass(frozen=True)
class Surfaces:
    """The surface that each frame sees.

    Attributes:
        cameras: ``cam_from_world`` [S, 3, 4] float64.
        intrinsics: [S, 3, 3] float64 in pixels of the processed image, pixel centers at half-integers.
        depth: [S, H, W], distance along the optical axis.
        prediction: whose surfaces these are.
    """

    cameras: np.ndarray
    intrinsics: np.ndarray
    depth: np.ndarray
    prediction: Prediction

    @classmethod
    def of(cls, prediction: Prediction) -> Surfaces:
        """Return the surfaces of a prediction; without depth, those of its world points.

        Raises:
            QvggtError: it has no finite cameras, or neither depth nor world points.
        """
        cameras, intrinsics = cameras_of(prediction)
        depth = prediction.depth
        if depth is None:
            if prediction.world_points is None:
                raise QvggtError(
                    "the prediction has neither depth nor world points: reconstruct with one of them (--heads depth)"
                )
            forward = cameras[:, 2].astype(np.float32)
            depth = np.einsum("shwi,si->shw", prediction.world_points, forward[:, :3]) + forward[:, 3, None, None]
        return cls(cameras, intrinsics, depth, prediction)

    def valid(self, frame: int) -> np.ndarray:
        """Return [H, W] bool: where a frame's depth is finite, positive, on the photograph and not masked."""
        depth = self.depth[frame]
        return np.isfinite(depth) & (depth > 0) & frame_photo_mask(self.prediction, frame)

    def points(self, frame: int, pixels: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Return world points [N, 3] float64 at pixels [N, 2] and depths [N] of a frame."""
        camera, lens = self.cameras[frame], self.intrinsics[frame]
        rays = (pixels - lens[:2, 2]) / (lens[0, 0], lens[1, 1])
        local = np.column_stack((rays, np.ones(len(rays)))) * np.asarray(depth, np.float64)[:, None]
        return (local - camera[:, 3]) @ camera[:, :3]

    def surface_points(self, frame: int, indices: np.ndarray) -> np.ndarray:
        """Return world points [N, 3] float64 of a frame's pixels, by their flat indices [N] into [H, W]."""
        rows, columns = np.divmod(indices, self.depth.shape[2])
        return self.points(frame, np.column_stack((columns, rows)) + 0.5, self.depth[frame].ravel()[indices])


@dataclass(frozen=True)
class Sight:
    """Points as one frame sees them.

    Attributes:
        pixels: [N, 2] float64, projections of the points, pixel centers at half-integers; NaN behind the camera.
        depth: [N] float64, the frame's predicted depth there; NaN where it has none.
        visible: [N] bool: inside the photograph, in front of the camera, and on the frame's surface.
    """

    pixels: np.ndarray
    depth: np.ndarray
    visible: np.ndarray


def see(surfaces: Surfaces, frame: int, points: np.ndarray, tolerance: float = DEPTH_TOLERANCE) -> Sight:
    """Project world points into a frame and test which of them it sees.

    The frame's depth at a projection is that of the nearest pixel or the interpolated one (linear in inverse depth,
    which is exact on planes), whichever is closer to the point's own depth.

    Args:
        surfaces: see ``Surfaces.of``.
        frame: index of the frame.
        points: [N, 3] in the prediction's world.
        tolerance: relative difference of depth up to which a point lies on the surface.
    """
    camera, lens = surfaces.cameras[frame], surfaces.intrinsics[frame]
    local = np.asarray(points, np.float64) @ camera[:, :3].T + camera[:, 3]
    distance = np.where(local[:, 2] > 0, local[:, 2], np.nan)
    pixels = local[:, :2] / distance[:, None] * (lens[0, 0], lens[1, 1]) + lens[:2, 2]
    height, width = surfaces.depth.shape[1:]
    with np.errstate(invalid="ignore"):
        inside = np.flatnonzero(((pixels >= 0) & (pixels < (width, height))).all(1))
    depth = np.full(len(pixels), np.nan)
    nearest, interpolated = sampled_depth(surfaces.depth[frame], surfaces.valid(frame), pixels[inside])
    wanted = distance[inside]
    depth[inside] = np.where(abs(interpolated - wanted) < abs(nearest - wanted), interpolated, nearest)
    with np.errstate(invalid="ignore"):
        visible = abs(depth - distance) <= tolerance * distance
    return Sight(pixels, depth, visible)


def sampled_depth(depth: np.ndarray, valid: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return depth [H, W] at pixels [N, 2]: of the nearest pixel, and interpolated; NaN where a pixel is not valid."""
    height, width = depth.shape

    def at(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return np.where(valid[row, column], depth[row, column], np.nan).astype(np.float64)

    column, row = pixels.astype(np.int64).T
    left, top = np.maximum(np.floor(pixels - 0.5), 0).astype(np.int64).T
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    across, down = np.clip(pixels - 0.5 - np.column_stack((left, top)), 0, 1).T
    above = (1 - across) / at(top, left) + across / at(top, right)
    below = (1 - across) / at(bottom, left) + across / at(bottom, right)
    return at(row, column), 1 / ((1 - down) * above + down * below)


def confident_pixels(prediction: Prediction, surfaces: Surfaces, frame: int, drop_percent: float = 25.0) -> np.ndarray:
    """Return the flat indices [N] into [H, W] of a frame's valid pixels without its least confident ones.

    Pixels at the threshold are kept, so that a constant confidence drops nothing.
    """
    usable = np.flatnonzero(surfaces.valid(frame))
    confidence = prediction.depth_conf if prediction.depth is not None else prediction.world_points_conf
    if confidence is None or not len(usable):
        return usable
    values = confidence[frame].ravel()[usable]
    return usable[values >= np.percentile(values, drop_percent, method="lower")]


def covisibility(
    prediction: Prediction, tolerance: float = DEPTH_TOLERANCE, max_pixels: int = 1024, drop_percent: float = 25.0
) -> np.ndarray:
    """Return [S, S] float64: entry (i, j) is the share of frame i's confident pixels whose points frame j sees.

    The diagonal is 1; the row of a frame without valid pixels is 0.

    Args:
        prediction: with cameras, and depth or world points.
        tolerance: see ``see``.
        max_pixels: most pixels used of each frame, evenly spaced in row-major order.
        drop_percent: percentage of each frame's pixels, the least confident, that are not used.

    Raises:
        QvggtError: outputs that it needs are missing.
    """
    surfaces = Surfaces.of(prediction)
    count = len(surfaces.cameras)
    points, owners = [], []
    for frame in range(count):
        chosen = confident_pixels(prediction, surfaces, frame, drop_percent)
        if len(chosen) > max_pixels:
            chosen = chosen[np.linspace(0, len(chosen) - 1, max_pixels).astype(np.int64)]
        points.append(surfaces.surface_points(frame, chosen))
        owners.append(np.full(len(chosen), frame))
    every, owner = np.concatenate(points), np.concatenate(owners)
    totals = np.maximum(np.bincount(owner, minlength=count), 1)
    seen = [
        np.bincount(owner[see(surfaces, frame, every, tolerance).visible], minlength=count) for frame in range(count)
    ]
    return np.stack(seen, 1) / totals[:, None]

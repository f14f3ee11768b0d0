"""Replace the cameras of a prediction; depth and points follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from qvggt.geometry import cameras_to_pose_encoding
from qvggt.postprocess.covisibility import Surfaces, see
from qvggt.postprocess.frames import cameras_of
from qvggt.types import Prediction

_PIXELS, _LEAST_PIXELS = 512, 20
_TOLERANCE = 0.25
_LEAST, _LARGEST_STEP = 0.005, 0.2  # of log scales: interpolation of depth alone gives ratios of up to 0.002
_ROUNDS = 3


def with_cameras(
    prediction: Prediction, cam_from_world: np.ndarray, intrinsics: np.ndarray, depth_scales: np.ndarray
) -> Prediction:
    """Return a prediction with other cameras and scaled depth maps.

    Each pixel keeps its place in its image: a world point is taken to its camera, to the new camera's ray through the
    same pixel at the scaled depth, and back to the world.

    Args:
        prediction: with cameras.
        cam_from_world: [S, 3, 4].
        intrinsics: [S, 3, 3] in pixels of the processed images.
        depth_scales: [S], a factor for each depth map.
    """
    old_cameras, old_intrinsics = cameras_of(prediction)
    points = prediction.world_points
    if points is not None:
        points = points.copy()
        for index, (old, new) in enumerate(zip(old_cameras, cam_from_world, strict=True)):
            rays = np.linalg.inv(intrinsics[index]) @ old_intrinsics[index] * depth_scales[index]
            local = (points[index].astype(np.float64) @ old[:, :3].T + old[:, 3]) @ rays.T
            points[index] = (local - new[:, 3]) @ new[:, :3]
    cameras, lenses = cam_from_world.astype(np.float32), intrinsics.astype(np.float32)
    size = (prediction.images.shape[2], prediction.images.shape[3])
    encoding = cameras_to_pose_encoding(torch.from_numpy(cameras), torch.from_numpy(lenses), size).numpy()
    if prediction.pose_enc is not None:
        same = (cameras == prediction.cam_from_world).all((1, 2)) & (lenses == prediction.intrinsics).all((1, 2))
        encoding[same] = prediction.pose_enc[same]
    depth = prediction.depth
    return replace(
        prediction,
        cam_from_world=cameras,
        intrinsics=lenses,
        pose_enc=encoding,
        depth=None if depth is None else depth * depth_scales[:, None, None].astype(np.float32),
        world_points=points,
    )


def consistent_depth_scales(prediction: Prediction) -> np.ndarray:
    """Return a factor [S] for each depth map by which frames agree on the depth of points that both see.

    Least squares over pairs of frames, of the median log ratio between the depth of one frame's points in the other
    frame and that frame's own depth. The mean of the log factors is 0: the scale as a whole does not change. Frames
    that share no points with others keep theirs, and so do those that differ by less than 0.5 percent.

    Args:
        prediction: with cameras and depth; without depth all factors are 1.
    """
    count = len(prediction.names)
    if prediction.depth is None:
        return np.ones(count)
    surfaces, logs = Surfaces.of(prediction), np.zeros(count)
    for _ in range(_ROUNDS):
        depth = surfaces.depth * np.exp(logs)[:, None, None]
        pairs = _depth_ratios(replace(surfaces, depth=depth))
        if not pairs:
            break
        rows, values = np.zeros((len(pairs) + 1, count)), np.zeros(len(pairs) + 1)
        for row, (one, other, value) in enumerate(pairs):
            rows[row, one], rows[row, other], values[row] = -1, 1, value
        linked = np.abs(rows).sum(0) > 0
        rows[-1] = linked
        step = np.linalg.lstsq(rows, values, rcond=None)[0]
        logs += np.where(linked, np.clip(step, -_LARGEST_STEP, _LARGEST_STEP), 0.0)
    return np.exp(np.where(np.abs(logs) < _LEAST, 0.0, logs))


def _depth_ratios(surfaces: Surfaces) -> list[tuple[int, int, float]]:
    """Return (i, j, median log ratio of the depth of i's points in j to j's own depth) for frames that share points."""
    found = []
    for one in range(len(surfaces.cameras)):
        usable = np.flatnonzero(surfaces.valid(one))
        if not len(usable):
            continue
        chosen = usable[np.linspace(0, len(usable) - 1, min(_PIXELS, len(usable))).astype(int)]
        points = surfaces.surface_points(one, chosen)
        for other, camera in enumerate(surfaces.cameras):
            sight = see(surfaces, other, points, _TOLERANCE) if other != one else None
            if sight is not None and sight.visible.sum() >= _LEAST_PIXELS:
                depth = points[sight.visible] @ camera[2, :3] + camera[2, 3]
                found.append((one, other, float(np.median(np.log(depth / sight.depth[sight.visible])))))
    return found

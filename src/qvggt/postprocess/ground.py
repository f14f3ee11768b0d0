"""The floor of a scene: which way is up, and where z = 0 is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qvggt.geometry import Similarity
from qvggt.postprocess.frames import camera_centers, level_rotation

Z_UP_FROM_GLTF = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""Rotation from glTF axes (y up, z backward) to axes with z up (x right, y forward)."""

_MAX_TILT_DEG = 20.0
_LEAST_SHARE = 0.03
_MAX_SAMPLE = 50_000
_BINS, _STRONG = 60, 0.4
_TOLERANCES = (0.04, 0.03, 0.02, 0.015, 0.01)
"""Distances from the plane within which points count as floor, relative to the range of heights, fit by fit."""


@dataclass(frozen=True)
class Ground:
    """An upright frame of a scene.

    Attributes:
        from_world: rigid transform (scale 1) to axes x right and y forward of the first camera, z up; the floor is at
            z = 0 and the median of the points at x = y = 0.
        found: whether a floor was found. If not, up is that of the cameras, and z = 0 the height of the lowest points.
    """

    from_world: Similarity
    found: bool


def find_ground(points: np.ndarray, cam_from_world: np.ndarray | None) -> Ground:
    """Return the upright frame of a scene, from the horizon of its cameras and the floor below them.

    The floor is the lowest of the strong peaks in a histogram of heights below the cameras. A plane is fitted to its
    points, and corrects the direction of up by at most 20 degrees.

    Args:
        points: [N, 3] in the world, N at least 1.
        cam_from_world: [S, 3, 4], or None if cameras are not known.
    """
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise ValueError(f"expected points [N, 3], got shape {points.shape}")
    sample = points[:: -(-len(points) // _MAX_SAMPLE)].astype(np.float64)
    level = Z_UP_FROM_GLTF @ level_rotation(cam_from_world)
    upright = sample @ level.T
    top = np.inf if cam_from_world is None else float(np.median(camera_centers(cam_from_world) @ level[2]))
    plane = _floor_plane(upright, top)
    if plane is None:
        rotation = level
        height = float(np.percentile(upright[:, 2], 1))
    else:
        rotation = _upright(np.array([-plane[0], -plane[1], 1.0])) @ level
        height = float(plane[2]) * rotation[2] @ level[2]
    center = np.median(sample @ rotation.T, axis=0)
    return Ground(Similarity(1.0, rotation, -np.array([center[0], center[1], height])), plane is not None)


def _floor_plane(points: np.ndarray, top: float) -> np.ndarray | None:
    """Return (a, b, c) of the floor z = a x + b y + c, for upright points [N, 3], or None if there is no floor."""
    below = points[points[:, 2] < top]
    if len(below) < max(16, _LEAST_SHARE * len(points)):
        return None
    low, high = np.percentile(below[:, 2], (0.5, 100))
    counts, edges = np.histogram(below[:, 2], _BINS, (low, max(high, low + 1e-9)))
    counts = counts + np.pad(counts, 1)[:-2] + np.pad(counts, 1)[2:]  # a slightly tilted floor fills several bins
    peak = int(np.flatnonzero(counts >= _STRONG * counts.max())[0])
    while peak + 1 < _BINS and counts[peak + 1] > counts[peak]:
        peak += 1
    plane = np.array([0.0, 0.0, (edges[peak] + edges[peak + 1]) / 2])
    for tolerance in _TOLERANCES:
        near = np.abs(below @ (-plane[0], -plane[1], 1.0) - plane[2]) < tolerance * (high - low)
        floor = below[near]
        if len(floor) < max(16, _LEAST_SHARE * len(points)):
            return None
        plane = np.linalg.lstsq(np.c_[floor[:, :2], np.ones(len(floor))], floor[:, 2], rcond=None)[0]
    tilt_deg = np.degrees(np.arctan(np.hypot(plane[0], plane[1])))
    return plane if tilt_deg <= _MAX_TILT_DEG else None


def _upright(normal: np.ndarray) -> np.ndarray:
    """Return the smallest rotation [3, 3] that takes a normal to z."""
    x, y, z = normal / np.linalg.norm(normal)
    side = np.array([[x * x, x * y], [x * y, y * y]]) / (1 + z)
    return np.block([[np.eye(2) - side, -np.array([[x], [y]])], [np.array([[x, y, z]])]])

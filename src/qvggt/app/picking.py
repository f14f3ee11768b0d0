"""Points picked with the mouse, and the camera path around a scene."""

from __future__ import annotations

import numpy as np

_CONE_RAD = 0.008
"""Points within this angle of the mouse's ray are hit, however small they are."""


def pick_point(points: np.ndarray, origin: np.ndarray, direction: np.ndarray, size: float = 0.0) -> int | None:
    """Return the index of the point that a ray hits, or None if there is none nearby.

    Of the points in a narrow cone around the ray, and of those whose disc it meets, the nearest is taken, but for
    points as near as that within the width of the cone the one closest to the ray.

    Args:
        points: [N, 3].
        origin: [3] start of the ray.
        direction: [3] of the ray, of any length.
        size: diameter of the points.
    """
    ray = np.asarray(direction, np.float64) / np.linalg.norm(direction)
    offset = points - np.asarray(origin)
    along = offset @ ray
    aside = np.linalg.norm(offset - along[:, None] * ray, axis=1)
    hit = np.flatnonzero((along > 0) & (aside <= np.maximum(size / 2, _CONE_RAD * along)))
    if not len(hit):
        return None
    nearest = along[hit].min()
    front = hit[along[hit] <= nearest + max(size, 2 * _CONE_RAD * nearest)]
    return int(front[aside[front].argmin()])


def orbit(center: np.ndarray, start: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a full turn around a center, in a world with z up.

    Args:
        center: [3] what is looked at.
        start: [3] first position; its distance and height are kept.
        frames: positions, evenly spaced.

    Returns:
        Positions [F, 3] and rotations [F, 3, 3] from camera (x right, y down, z forward) to world.
    """
    angle = 2 * np.pi * np.arange(frames) / frames
    offset = np.asarray(start, np.float64) - center
    turned = np.stack(
        (
            np.cos(angle) * offset[0] - np.sin(angle) * offset[1],
            np.sin(angle) * offset[0] + np.cos(angle) * offset[1],
            np.full(frames, offset[2]),
        ),
        -1,
    )
    return center + turned, np.stack([looking(-each) for each in turned])


def looking(forward: np.ndarray) -> np.ndarray:
    """Return the rotation [3, 3] from camera to world of a level camera that looks along ``forward``; z is up."""
    forward = np.asarray(forward, np.float64) / np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right = np.array([1.0, 0, 0]) if np.linalg.norm(right) < 1e-9 else right / np.linalg.norm(right)
    return np.stack((right, np.cross(forward, right), forward), 1)

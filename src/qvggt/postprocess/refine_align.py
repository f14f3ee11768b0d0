"""Similarity transform between two sets of cameras of the same frames."""

from __future__ import annotations

import numpy as np

from qvggt.geometry import Similarity
from qvggt.postprocess.frames import camera_centers

_STEPS = 5


def align_cameras(found: np.ndarray, wanted: np.ndarray) -> Similarity | None:
    """Return the similarity transform from the world of cameras ``found`` [S, 3, 4] to that of ``wanted`` [S, 3, 4].

    The rotation is the mean over frames of the one that each frame's orientations determine; scale and translation are
    those of least squares between camera centers, given the rotation. Frames that disagree with the others get little
    weight. None if the centers determine no scale: they are in one place, or arranged otherwise.
    """
    relative = np.einsum("sji,sjk->sik", wanted[:, :, :3], found[:, :, :3])
    weights, rotation = np.ones(len(found)), np.eye(3)
    for _ in range(_STEPS):
        left, _, right = np.linalg.svd(np.einsum("s,sij->ij", weights, relative))
        rotation = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
        weights = _weights(np.linalg.norm(relative - rotation, axis=(1, 2)))
    source, target = camera_centers(found) @ rotation.T, camera_centers(wanted)
    weights, scale, shift = np.ones(len(found)), 1.0, np.zeros(3)
    for _ in range(_STEPS):
        from_mean, to_mean = (np.average(part, axis=0, weights=weights) for part in (source, target))
        a, b = source - from_mean, target - to_mean
        spread = float(weights @ (a * a).sum(1))
        scale = float(weights @ (a * b).sum(1)) / spread if spread > 0 else 0.0
        if scale <= 0:
            return None
        shift = to_mean - scale * from_mean
        weights = _weights(np.linalg.norm(scale * source + shift - target, axis=1))
    return Similarity(scale, rotation, shift)


def moved_cameras(cam_from_world: np.ndarray, by: Similarity) -> np.ndarray:
    """Return cameras [S, 3, 4] whose world is mapped by a similarity transform; they see its points as before."""
    rotation = cam_from_world[:, :, :3] @ by.rotation.T
    translation = by.scale * cam_from_world[:, :, 3:] - rotation @ by.translation[:, None]
    return np.concatenate((rotation, translation), 2)


def _weights(residuals: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + (residuals / max(2.0 * float(np.median(residuals)), 1e-12)) ** 2)

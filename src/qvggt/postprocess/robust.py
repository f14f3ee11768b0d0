"""Estimates that a minority of wrong measurements does not change: ratios, similarity transforms, aligned cameras."""

from __future__ import annotations

import itertools
import math

import numpy as np

from qvggt.geometry import Similarity, umeyama
from qvggt.postprocess.frames import camera_centers

_SAMPLES = 500
_NORMAL = 1.4826  # standard deviation of a normal distribution per median absolute deviation
_CUT = 2.5  # standard deviations
_LEAST = 1e-3  # relative differences below this are never rejected
_ROUNDS = 5


def robust_ratio(wanted: np.ndarray, found: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the median ratio of lengths, and which of them agree with it.

    Args:
        wanted: [N] above 0.
        found: [N] above 0.

    Returns:
        The ratio wanted / found, and a mask [N] that is False where a ratio is far from the median, in units of the
        median deviation.
    """
    ratios = np.log(wanted) - np.log(found)
    center = np.median(ratios)
    deviation = np.abs(ratios - center)
    kept = deviation <= max(3 * _NORMAL * float(np.median(deviation)), _LEAST)
    return float(np.exp(np.median(ratios[kept]))), kept


def robust_similarity(
    source: np.ndarray, target: np.ndarray, rotation: np.ndarray | None = None
) -> tuple[Similarity, np.ndarray]:
    """Return the similarity that maps most points onto their targets, and which points it fits.

    Least median of squares over samples of three points (two if the rotation is given), then least squares over the
    points within 2.5 robust standard deviations. If there are hardly more points than that, all of them count.

    Args:
        source: [N, 3] finite points.
        target: [N, 3] finite points, one for each of ``source``.
        rotation: [3, 3], if it is known.

    Returns:
        The similarity, and a mask [N] of the points that it was fitted to.

    Source: P. Rousseeuw and A. Leroy, "Robust Regression and Outlier Detection", 1987.
    """
    count, least = len(source), 3 if rotation is None else 2
    if count <= least:
        return _fit(source, target, rotation), np.ones(count, bool)
    fits = [_fit(source[list(sample)], target[list(sample)], rotation) for sample in _samples(source, least)]
    rank = count // 2  # the median, of an even number the upper one
    errors = [float(np.partition(residuals(fit, source, target), rank)[rank]) for fit in fits]
    best = fits[int(np.argmin(errors))]
    size = float(np.median(np.linalg.norm(target - np.median(target, 0), axis=1)))
    limit = max(_CUT * _NORMAL * (1 + 5 / (count - least)) * min(errors), _LEAST * size)
    kept = residuals(best, source, target) <= limit  # more than half of them
    for _ in range(_ROUNDS):
        now = residuals(_fit(source[kept], target[kept], rotation), source, target) <= limit
        if now.sum() < least or (now == kept).all():
            break
        kept = now
    return _fit(source[kept], target[kept], rotation), kept


def residuals(fit: Similarity, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the distances [N] of mapped points to their targets."""
    return np.linalg.norm(fit.apply(source) - target, axis=1)


def mean_rotation(rotations: np.ndarray) -> np.ndarray:
    """Return the mean [3, 3] of rotations [N, 3, 3]; those far from the others get little weight."""
    weights, mean = np.ones(len(rotations)), np.eye(3)
    for _ in range(_ROUNDS):
        left, _, right = np.linalg.svd(np.einsum("n,nij->ij", weights, rotations))
        mean = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
        weights = _weights(np.linalg.norm(rotations - mean, axis=(1, 2)))
    return mean


def align_cameras(found: np.ndarray, wanted: np.ndarray, known_scale: float | None = None) -> Similarity | None:
    """Return the similarity transform from the world of cameras ``found`` [S, 3, 4] to that of ``wanted`` [S, 3, 4].

    The rotation is the mean over frames of the one that each frame's orientations determine; scale and translation are
    those of least squares between camera centers, given the rotation. Frames that disagree with the others get little
    weight. None if the centers determine no scale: they are in one place, or arranged otherwise, and it is not known.
    """
    rotation = mean_rotation(wanted[:, :, :3].transpose(0, 2, 1) @ found[:, :, :3])
    source, target = camera_centers(found) @ rotation.T, camera_centers(wanted)
    weights, scale, shift = np.ones(len(found)), 1.0, np.zeros(3)
    for _ in range(_ROUNDS):
        from_mean, to_mean = (np.average(part, axis=0, weights=weights) for part in (source, target))
        a, b = source - from_mean, target - to_mean
        spread = float(weights @ (a * a).sum(1))
        scale = float(weights @ (a * b).sum(1)) / spread if spread > 0 else 0.0
        scale = scale if known_scale is None else known_scale
        if scale <= 0:
            return None
        shift = to_mean - scale * from_mean
        weights = _weights(np.linalg.norm(scale * source + shift - target, axis=1))
    return Similarity(scale, rotation, shift)


def _weights(residuals: np.ndarray) -> np.ndarray:
    """Return weights [N] that are small where a residual is far above the median."""
    return 1.0 / (1.0 + (residuals / max(2.0 * float(np.median(residuals)), 1e-12)) ** 2)


def _fit(source: np.ndarray, target: np.ndarray, rotation: np.ndarray | None) -> Similarity:
    """Return the similarity of the least sum of squares, with a rotation if it is given."""
    if rotation is None:
        return umeyama(source, target)
    turned = source @ rotation.T
    centered = turned - turned.mean(0)
    spread = float((centered**2).sum())
    scale = max(float((centered * (target - target.mean(0))).sum()) / spread, 0.0) if spread > 0 else 1.0
    return Similarity(scale, rotation, target.mean(0) - scale * turned.mean(0))


def _samples(points: np.ndarray, size: int) -> list[tuple[int, ...]]:
    """Return pairs or triples of points, without those that are close together compared with others."""
    count = len(points)
    if math.comb(count, size) <= _SAMPLES:
        samples = list(itertools.combinations(range(count), size))
    else:
        rng = np.random.default_rng(0)
        samples = [tuple(map(int, rng.choice(count, size, replace=False))) for _ in range(_SAMPLES)]
    corners = points[np.array(samples)]  # [T, size, 3]
    around = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1).sum(1)
    least = max(0.25 * float(np.median(around)), 0.02 * float(around.max()))
    return [sample for sample, length in zip(samples, around, strict=True) if length >= least]

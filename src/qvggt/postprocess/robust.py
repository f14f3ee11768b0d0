"""Estimates that a minority of wrong measurements does not change: ratios and similarity transforms."""

from __future__ import annotations

import itertools
import math

import numpy as np

from qvggt.geometry import Similarity, umeyama

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


def robust_similarity(source: np.ndarray, target: np.ndarray) -> tuple[Similarity, np.ndarray]:
    """Return the similarity that maps most points onto their targets, and which points it fits.

    Least median of squares over samples of three points, then least squares over the points within 2.5 robust standard
    deviations. With fewer than four points all of them count.

    Args:
        source: [N, 3] finite points.
        target: [N, 3] finite points, one for each of ``source``.

    Returns:
        The similarity, and a mask [N] of the points that it was fitted to.

    Source: P. Rousseeuw and A. Leroy, "Robust Regression and Outlier Detection", 1987.
    """
    count = len(source)
    if count < 4:
        return umeyama(source, target), np.ones(count, bool)
    fits = [umeyama(source[list(sample)], target[list(sample)]) for sample in _samples(source)]
    rank = count // 2  # the median, of an even number the upper one
    errors = [float(np.partition(residuals(fit, source, target), rank)[rank]) for fit in fits]
    best = fits[int(np.argmin(errors))]
    size = float(np.median(np.linalg.norm(target - np.median(target, 0), axis=1)))
    limit = max(_CUT * _NORMAL * (1 + 5 / (count - 3)) * min(errors), _LEAST * size)
    kept = residuals(best, source, target) <= limit  # more than half of them
    for _ in range(_ROUNDS):
        now = residuals(umeyama(source[kept], target[kept]), source, target) <= limit
        if now.sum() < 3 or (now == kept).all():
            break
        kept = now
    return umeyama(source[kept], target[kept]), kept


def residuals(fit: Similarity, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the distances [N] of mapped points to their targets."""
    return np.linalg.norm(fit.apply(source) - target, axis=1)


def _samples(points: np.ndarray) -> list[tuple[int, ...]]:
    """Return triples of points, without those that are close together compared with others."""
    count = len(points)
    if math.comb(count, 3) <= _SAMPLES:
        triples = list(itertools.combinations(range(count), 3))
    else:
        rng = np.random.default_rng(0)
        triples = [tuple(rng.choice(count, 3, replace=False).tolist()) for _ in range(_SAMPLES)]
    corners = points[np.array(triples)]  # [T, 3, 3]
    around = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1).sum(1)
    least = max(0.25 * float(np.median(around)), 0.02 * float(around.max()))
    return [triple for triple, length in zip(triples, around, strict=True) if length >= least]

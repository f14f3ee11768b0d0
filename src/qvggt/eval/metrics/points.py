"""Distances and normals between two point clouds: accuracy, completeness, normal consistency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import KDTree

from qvggt.geometry import check_points

NORMAL_NEIGHBORS = 30
"""Nearest points, itself included, whose plane gives a point its normal."""

_CHUNK = 100_000  # points whose neighborhoods are in memory at once: about 100 MB


@dataclass(frozen=True)
class CloudErrors:
    """Distances and normal agreement between a predicted and a true cloud, in the clouds' unit (meters).

    Attributes:
        accuracy: mean over predicted points of the distance to the nearest true point.
        accuracy_median: its median.
        completeness: mean over true points of the distance to the nearest predicted point.
        completeness_median: its median.
        normal_consistency: mean of the two directions' mean |n . n_nearest|, 0..1; NaN if no true normal is defined.
        normal_consistency_median: the same with medians.
    """

    accuracy: float
    accuracy_median: float
    completeness: float
    completeness_median: float
    normal_consistency: float
    normal_consistency_median: float

    @classmethod
    def filled(cls, distance: float, consistency: float) -> CloudErrors:
        """Return errors that all have the same distance and the same consistency."""
        return cls(*(distance,) * 4, *(consistency,) * 2)


def estimate_normals(points: np.ndarray, neighbors: int = NORMAL_NEIGHBORS) -> np.ndarray:
    """Return unit normals [N, 3] of points [N, 3], up to sign, from the plane through each point's neighbors.

    A normal is NaN where the neighbors do not define a plane: fewer than three of them, all on one line, or all in
    one place.
    """
    points = check_points(points)
    normals = np.full_like(points, np.nan)
    count = min(neighbors, len(points))
    if count < 3:
        return normals
    tree = KDTree(points)
    for start in range(0, len(points), _CHUNK):
        _, index = tree.query(points[start : start + _CHUNK], k=count, workers=_workers())
        local = points[index]  # [n, K, 3]
        local = local - local.mean(1, keepdims=True)
        variances, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", local, local))  # ascending
        planar = variances[:, 1] > 1e-10 * variances[:, 2]
        normals[start : start + _CHUNK][planar] = axes[planar, :, 0]
    return normals


def cloud_errors(predicted: np.ndarray, truth: np.ndarray) -> CloudErrors:
    """Compare two aligned clouds. Distances are not truncated.

    Points without a true normal are left out; points without a predicted normal score 0, so that a collapsed prediction
    gains nothing.

    Args:
        predicted: [N, 3] finite points, N > 0.
        truth: [M, 3] finite points, M > 0.

    Raises:
        ValueError: if a cloud is empty or has points that are not finite.
    """
    predicted, truth = check_points(predicted), check_points(truth)
    accuracy, nearest_true = KDTree(truth).query(predicted, workers=_workers())
    completeness, nearest_predicted = KDTree(predicted).query(truth, workers=_workers())
    normals_p, normals_t = estimate_normals(predicted), estimate_normals(truth)
    agreements = (
        _agreement(normals_p, normals_t[nearest_true]),
        _agreement(normals_p[nearest_predicted], normals_t),
    )
    if all(a.size for a in agreements):
        mean, median = (float(np.mean([f(a) for a in agreements])) for f in (np.mean, np.median))
    else:
        mean = median = float("nan")
    return CloudErrors(
        float(np.mean(accuracy)),
        accuracy_median=float(np.median(accuracy)),
        completeness=float(np.mean(completeness)),
        completeness_median=float(np.median(completeness)),
        normal_consistency=mean,
        normal_consistency_median=median,
    )


def _agreement(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return |cosine| between normals where the true one is defined."""
    defined = np.isfinite(truth).all(1)
    return np.nan_to_num(np.abs((predicted[defined] * truth[defined]).sum(1)), nan=0.0)


def _workers() -> int:
    """Return the number of threads of torch, so that one setting governs the whole process."""
    return torch.get_num_threads()

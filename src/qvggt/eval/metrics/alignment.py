"""Align a predicted point cloud with the true one without correspondences: medians, and ICP."""

from __future__ import annotations

import numpy as np

from qvggt.geometry import Similarity, check_points
from qvggt.options.messages import missing_extra

ICP_DISTANCE_M = 0.1
"""Largest distance between corresponding points in ICP."""

_ICP_ITERATIONS = 30
_ICP_FEWEST_POINTS = 10


def align_medians(source: np.ndarray, target: np.ndarray) -> Similarity:
    """Return the scale and shift along z by which medians agree: the coarse alignment of the protocol ``crop224``.

    The median z of each cloud is subtracted, and its size is the median distance to its coordinate-wise median; the
    ratio of the two sizes, clipped to 1e-3..1e3, is the scale. Points need no correspondence, but both clouds must be
    in the frame of the first camera.

    Args:
        source: [N, 3] finite points in the frame of the first camera.
        target: [M, 3] finite points in the same frame.

    Raises:
        ValueError: if a cloud is empty or not finite.
    """
    source, target = check_points(source), check_points(target)
    center_s, center_t = np.median(source, 0), np.median(target, 0)
    size_s = np.median(np.linalg.norm(source - center_s, axis=1))
    size_t = np.median(np.linalg.norm(target - center_t, axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float(np.clip(np.nan_to_num(size_t / size_s, nan=1.0, posinf=np.inf), 1e-3, 1e3))
    return Similarity(ratio, np.eye(3), np.array([0.0, 0.0, center_t[2] - ratio * center_s[2]]))


def refine_icp(source: np.ndarray, target: np.ndarray, distance_m: float = ICP_DISTANCE_M) -> Similarity:
    """Return the rigid motion that point-to-point ICP finds from the identity.

    With fewer than ten points in a cloud, or where no point has a neighbor within ``distance_m``, it is the identity.

    Args:
        source: [N, 3] finite points, already near the target.
        target: [M, 3] finite points.
        distance_m: farthest correspondence, in the target's unit.

    Raises:
        QvggtError: if small_gicp is not installed.
    """
    try:
        import small_gicp
    except ImportError as error:
        raise missing_extra("the alignment of point maps", "eval") from error
    source, target = check_points(source), check_points(target)
    matrix = np.eye(4)
    if min(len(source), len(target)) >= _ICP_FEWEST_POINTS:
        # One thread sums in a fixed order, so that equal clouds give equal digits.
        matrix = small_gicp.align(
            small_gicp.PointCloud(target),
            small_gicp.PointCloud(source),
            registration_type="ICP",
            max_correspondence_distance=distance_m,
            num_threads=1,
            max_iterations=_ICP_ITERATIONS,
            rotation_epsilon=1e-6,
            translation_epsilon=1e-6,
        ).T_target_source
    if not np.isfinite(matrix).all():
        matrix = np.eye(4)
    return Similarity(1.0, matrix[:3, :3], matrix[:3, 3])

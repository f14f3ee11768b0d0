"""Differences between a quantized model's predictions and the float model's; no ground truth is needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qvggt.eval.metrics.pose import relative_to_first, rotation_angle_deg, translation_angle_deg
from qvggt.types import Prediction


@dataclass(frozen=True, eq=False)
class Fidelity:
    """Differences per frame; fields of a head that either prediction lacks are None.

    Cameras are compared relative to each model's first camera, so the first frame is NaN. Values that are not finite in
    the quantized model's prediction count as infinite differences.

    Attributes:
        rotation_deg: [S] angle between the cameras' rotations, 0..180.
        translation_deg: [S] angle between the cameras' translations, with sign, 0..180; NaN if the float model's is 0.
        depth_rel: [S] mean |d - d_float| / d_float.
        point_rel: [S] mean distance between the points over the mean norm of the float model's.
        point_rel_pooled: the same with both means over all frames.
    """

    rotation_deg: np.ndarray | None = None
    translation_deg: np.ndarray | None = None
    depth_rel: np.ndarray | None = None
    point_rel: np.ndarray | None = None
    point_rel_pooled: float | None = None

    def means(self) -> dict[str, float]:
        """Return the means over frames, keyed ``fidelity_rotation_deg`` and so on.

        NaN frames are left out; a mean over none (cameras of a single frame) is NaN.
        """
        named = {
            "fidelity_rotation_deg": self.rotation_deg,
            "fidelity_translation_deg": self.translation_deg,
            "fidelity_depth_rel": self.depth_rel,
        }
        means = {name: _mean_defined(values) for name, values in named.items() if values is not None}
        if self.point_rel_pooled is not None:
            means["fidelity_point_rel"] = self.point_rel_pooled
        return means


def fidelity(reference: Prediction, other: Prediction, valid: np.ndarray | None = None) -> Fidelity:
    """Compare a model's prediction with the float model's on the same images.

    Args:
        reference: the float model's prediction.
        other: the quantized model's prediction.
        valid: [S, H, W] bool, the pixels to compare (those of the photographs, not the padding); all by default.

    Raises:
        ValueError: the two differ in frames or size, or a frame has no pixel to compare.
    """
    rotation = translation = depth = points = pooled = None
    if reference.cam_from_world is not None and other.cam_from_world is not None:
        rotation, translation = camera_difference_deg(reference.cam_from_world, other.cam_from_world)
    if reference.depth is not None and other.depth is not None:
        depth = depth_difference(reference.depth, other.depth, valid)
    if reference.world_points is not None and other.world_points is not None:
        points, pooled = point_difference(reference.world_points, other.world_points, valid)
    return Fidelity(rotation, translation_deg=translation, depth_rel=depth, point_rel=points, point_rel_pooled=pooled)


def camera_difference_deg(reference: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rotation and translation angles [S] in degrees between cameras [S, 3, 4], each set relative to its first.

    The first frame, and translations where the reference has not moved, are NaN.
    """
    _check_same(reference, other, "cameras")
    ours, theirs = relative_to_first(other), relative_to_first(reference)
    rotation = _worst_where_broken(rotation_angle_deg(ours[..., :3], theirs[..., :3]))
    translation = _worst_where_broken(translation_angle_deg(ours[..., 3], theirs[..., 3], signed=True))
    rotation[:1] = np.nan
    translation[(np.arange(len(theirs)) == 0) | (np.linalg.norm(theirs[..., 3], axis=1) == 0)] = np.nan
    return rotation, translation


def depth_difference(reference: np.ndarray, other: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Return mean |d - d_ref| / d_ref [S] of depth maps [S, H, W] over positive reference; NaN where it has none."""
    _check_same(reference, other, "depth maps")
    counted = _counted(valid, reference.shape)
    rows = []
    for base, depth, mask in zip(reference.astype(np.float64), other.astype(np.float64), counted, strict=True):
        known = mask & (base > 0)
        relative = np.abs(depth[known] - base[known]) / base[known]
        rows.append(relative.mean() if known.any() else np.nan)
    broken = (counted & ~np.isfinite(other)).any((1, 2))
    return np.where(broken, np.inf, np.array(rows))


def point_difference(
    reference: np.ndarray, other: np.ndarray, valid: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """Return mean distance over mean norm of point maps [S, H, W, 3]: per frame [S], and over all frames."""
    _check_same(reference, other, "point maps")
    counted = _counted(valid, reference.shape[:3])
    base = reference.astype(np.float64)
    distance = _worst_where_broken(np.linalg.norm(other - base, axis=-1).mean((1, 2), where=counted))
    norm = np.linalg.norm(base, axis=-1).mean((1, 2), where=counted)
    with np.errstate(divide="ignore", invalid="ignore"):
        return distance / norm, float(distance.mean() / norm.mean())


def _counted(valid: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    if valid is None:
        return np.ones(shape, bool)
    if valid.shape != shape or not valid.any((1, 2)).all():
        raise ValueError(f"expected pixels that count in every frame of {shape}, got a mask of shape {valid.shape}")
    return valid


def _check_same(reference: np.ndarray, other: np.ndarray, what: str) -> None:
    if reference.shape != other.shape:
        raise ValueError(f"expected {what} of the same images, got shapes {reference.shape} and {other.shape}")


def _worst_where_broken(values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), np.inf, values)


def _mean_defined(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")

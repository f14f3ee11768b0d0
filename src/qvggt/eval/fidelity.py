"""Differences between a quantized model's predictions and the float model's; no ground truth is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qvggt.eval.metrics.pose import (
    THRESHOLDS_DEG,
    PairErrors,
    auc,
    relative_poses,
    relative_to_first,
    rotation_angle_deg,
    translation_angle_deg,
)
from qvggt.eval.results import FIDELITY, SceneResult
from qvggt.types import Prediction

STILL = 1e-3
"""Two cameras of the float model count as one place if they are at most this share of its longest baseline apart."""


@dataclass(frozen=True, eq=False)
class Fidelity:
    """Differences per frame, and of cameras per pair too; fields of a head that either prediction lacks are None.

    Cameras of frames are compared relative to each model's first camera, so the first frame is NaN. Values that are not
    finite in the quantized model's prediction count as infinite differences.

    Attributes:
        rotation_deg: [S] angle between the cameras' rotations, 0..180.
        translation_deg: [S] angle between the cameras' translations, with sign, 0..180; NaN if the float model's is 0.
        depth_rel: [S] mean |d - d_float| / d_float.
        point_rel: [S] mean distance between the points over the mean norm of the float model's.
        point_rel_pooled: the same with both means over all frames.
        pairs: errors of the relative poses of all pairs of frames, with the float model's as the truth; see
            ``pair_differences``.
    """

    rotation_deg: np.ndarray | None = None
    translation_deg: np.ndarray | None = None
    depth_rel: np.ndarray | None = None
    point_rel: np.ndarray | None = None
    point_rel_pooled: float | None = None
    pairs: PairErrors | None = None

    def auc(self) -> dict[str, float]:
        """Return pose AUC with the float model's cameras as the truth, 0..100, keyed ``auc30`` .. ``auc3``.

        NaN for a single frame; empty if there are no cameras.
        """
        pairs = self.pairs
        return {} if pairs is None else {f"auc{t}": auc(pairs.joint_deg, t) for t in THRESHOLDS_DEG}

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
    rotation = translation = depth = points = pooled = pairs = None
    if reference.cam_from_world is not None and other.cam_from_world is not None:
        rotation, translation = camera_difference_deg(reference.cam_from_world, other.cam_from_world)
        pairs = pair_differences(reference.cam_from_world, other.cam_from_world)
    if reference.depth is not None and other.depth is not None:
        depth = depth_difference(reference.depth, other.depth, valid)
    if reference.world_points is not None and other.world_points is not None:
        points, pooled = point_difference(reference.world_points, other.world_points, valid)
    return Fidelity(rotation, translation, depth, points, point_rel_pooled=pooled, pairs=pairs)


def fidelity_result(scene: str, group: str, frames: int, far: Fidelity) -> SceneResult:
    """Return the differences on one scene as its result, from which tables are pooled."""
    pairs = far.pairs or PairErrors(np.empty(0), np.empty(0))
    broken = int(np.isnan(pairs.joint_deg).sum())
    return SceneResult(
        scene=scene,
        group=group,
        protocols=(FIDELITY,),
        frames=frames,
        rotation_deg=tuple(pairs.rotation_deg.tolist()),
        translation_deg=tuple(pairs.translation_deg.tolist()),
        values=far.means(),
        notes=(f"{FIDELITY}: {broken} pairs are not finite and count as wrong",) if broken else (),
    )


def camera_fidelity(reference: Sequence[SceneResult], other: Sequence[SceneResult]) -> tuple[SceneResult, ...]:
    """Compare the cameras that two models predicted, scene by scene, without running them again.

    Args:
        reference: the float model's results.
        other: a model's results of the same scenes and frames.

    Returns:
        One result for each scene; none if either model predicted no cameras.

    Raises:
        ValueError: the scenes or their frames differ.
    """
    wanted = {result.scene: result for result in reference}
    if wanted.keys() != {result.scene for result in other}:
        raise ValueError("expected results of the same scenes of both models")
    if not all(result.cameras for result in (*reference, *other)):
        return ()
    found = []
    for result in other:
        cameras = [np.array(each.cameras).reshape(-1, 3, 4) for each in (wanted[result.scene], result)]
        far = Fidelity(*camera_difference_deg(*cameras), pairs=pair_differences(*cameras))
        found.append(fidelity_result(result.scene, result.group, result.frames, far))
    return tuple(found)


def pair_differences(reference: np.ndarray, other: np.ndarray) -> PairErrors:
    """Return the errors of relative poses over all pairs of frames, with a model's own cameras as the truth.

    Relative poses are those of the protocol ``pose-standard``. Where the reference has not moved, at most ``STILL`` of
    the longest baseline of its cameras, direction is rounding noise (two copies of one photograph, for example):
    translations of such pairs are 0 degrees apart, so that their rotation alone counts. A pair is NaN, which counts as
    the worst in every metric, where either prediction is not finite.

    Args:
        reference: [S, 3, 4] ``cam_from_world`` of the float model.
        other: [S, 3, 4] of the model that is compared with it, in any world frame and unit.

    Raises:
        ValueError: the shapes differ, or are not those of cameras.
    """
    _check_same(reference, other, "cameras")
    theirs, ours = relative_poses(reference), relative_poses(other)
    rotation = rotation_angle_deg(ours[..., :3], theirs[..., :3])
    translation = translation_angle_deg(ours[..., 3], theirs[..., 3])
    baseline = np.linalg.norm(theirs[..., 3], axis=-1)
    still = (baseline <= STILL * baseline.max(initial=0)) & ~np.isnan(translation)
    return PairErrors(rotation, np.where(still, 0.0, translation))


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

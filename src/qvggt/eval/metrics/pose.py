"""Camera pose errors over pairs of frames, and the shares that summarize them: AUC, RRA and RTA.

Two relative poses are in use and differ by several points, so every table says which one it used:

- ``standard``: ``E_i E_j^-1``, which takes points from camera j to camera i: an error belongs to its two frames alone.
- ``vggt``: all cameras are first expressed relative to the first one, ``E' = E E_0^-1``, then ``E'_i^-1 E'_j``:
  an error in the first frame is in every pair.

All arithmetic is float64, because a pair with a short baseline has a direction that float32 cannot hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from qvggt.geometry import matrix_to_quaternion

PoseVariant = Literal["standard", "vggt"]

THRESHOLDS_DEG = (30, 15, 5, 3)
"""Thresholds, in degrees, at which AUC, RRA and RTA are reported."""

_EPS = 1e-15


@dataclass(frozen=True, eq=False)
class PairErrors:
    """Errors of the relative poses of all pairs i < j of a sequence, in the order (0, 1), (0, 2), ..., (1, 2), ...

    Attributes:
        rotation_deg: [N] angle between predicted and true relative rotation, 0..180; NaN where the prediction is.
        translation_deg: [N] angle between the relative translations up to sign, 0..90; NaN where the prediction is.
    """

    rotation_deg: np.ndarray
    translation_deg: np.ndarray

    @property
    def joint_deg(self) -> np.ndarray:
        """The larger of both errors, [N]; NaN where either is NaN."""
        return np.maximum(self.rotation_deg, self.translation_deg)


def check_cameras(cam_from_world: np.ndarray) -> np.ndarray:
    """Return cameras [S, 3, 4] (or [S, 4, 4], last row dropped) as float64 [S, 3, 4].

    Raises:
        ValueError: if the shape is another.
    """
    cameras = np.asarray(cam_from_world, dtype=np.float64)
    if cameras.ndim != 3 or cameras.shape[1:] not in ((3, 4), (4, 4)):
        raise ValueError(f"expected cameras [S, 3, 4], got shape {cameras.shape}")
    return cameras[:, :3]


def relative_to_first(cam_from_world: np.ndarray) -> np.ndarray:
    """Return cameras [S, 3, 4] in float64 whose world is the frame of the first camera: ``E_i E_0^-1``."""
    cameras = check_cameras(cam_from_world)
    with np.errstate(invalid="ignore", over="ignore"):
        rotation = cameras[:, :, :3] @ cameras[:1, :, :3].transpose(0, 2, 1)
        translation = cameras[:, :, 3] - np.einsum("sij,j->si", rotation, cameras[0, :, 3])
    return np.concatenate((rotation, translation[..., None]), -1)


def relative_poses(cam_from_world: np.ndarray, variant: PoseVariant = "standard") -> np.ndarray:
    """Return the relative poses [N, 3, 4] of all pairs i < j of cameras [S, 3, 4], N = S (S - 1) / 2.

    Raises:
        ValueError: if the shape is not that of cameras, or the variant is unknown.
    """
    cameras = check_cameras(cam_from_world)
    i, j = np.triu_indices(len(cameras), k=1)
    with np.errstate(invalid="ignore", over="ignore"):
        if variant == "standard":
            rotation = cameras[i, :, :3] @ cameras[j, :, :3].transpose(0, 2, 1)
            translation = cameras[i, :, 3] - np.einsum("nij,nj->ni", rotation, cameras[j, :, 3])
        elif variant == "vggt":
            cameras = relative_to_first(cameras)
            inverse_i = cameras[i, :, :3].transpose(0, 2, 1)
            rotation = inverse_i @ cameras[j, :, :3]
            translation = np.einsum("nij,nj->ni", inverse_i, cameras[j, :, 3] - cameras[i, :, 3])
        else:
            raise ValueError(f"expected the pose variant 'standard' or 'vggt', got {variant!r}")
    return np.concatenate((rotation, translation[..., None]), -1)


def rotation_angle_deg(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the angles [...] in degrees, 0..180, between rotation matrices [..., 3, 3].

    The smallest angle that is told from zero is 3.6e-6 degrees: ``1 - (q.q')^2`` is kept at 1e-15 or more.
    """
    first, second = (
        matrix_to_quaternion(torch.from_numpy(np.ascontiguousarray(r))).numpy() for r in (predicted, truth)
    )
    cosine = (first * second).sum(-1)
    return np.degrees(np.arccos(1 - 2 * np.maximum(1 - cosine**2, _EPS)))


def translation_angle_deg(predicted: np.ndarray, truth: np.ndarray, signed: bool = False) -> np.ndarray:
    """Return the angles [...] in degrees between translations [..., 3].

    Args:
        predicted: [..., 3].
        truth: [..., 3].
        signed: if False, opposite directions count as equal and angles are 0..90; if True they are 0..180.

    A translation of length zero has no direction and is 90 degrees from everything, another zero included.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        cosine = (_unit(predicted) * _unit(truth)).sum(-1)
        return np.degrees(np.arccos(np.clip(cosine if signed else np.abs(cosine), -1, 1)))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + _EPS)


def pose_errors(predicted: np.ndarray, truth: np.ndarray, variant: PoseVariant = "standard") -> PairErrors:
    """Compare predicted with true cameras over all pairs of frames.

    Args:
        predicted: [S, 3, 4] ``cam_from_world``, in any world frame and unit.
        truth: [S, 3, 4] ``cam_from_world``.
        variant: which relative pose, ``standard`` or ``vggt``.

    Returns:
        Errors of the S (S - 1) / 2 pairs: none for one frame. A pair is NaN where the prediction is not finite.

    Raises:
        ValueError: if the numbers of cameras differ, or true cameras are not finite.
    """
    predicted, truth = check_cameras(predicted), check_cameras(truth)
    if predicted.shape != truth.shape:
        raise ValueError(f"expected as many predicted as true cameras, got {len(predicted)} and {len(truth)}")
    if not np.isfinite(truth).all():
        raise ValueError("expected finite true cameras, got NaN or infinity")
    ours, theirs = relative_poses(predicted, variant), relative_poses(truth, variant)
    return PairErrors(
        rotation_angle_deg(ours[..., :3], theirs[..., :3]), translation_angle_deg(ours[..., 3], theirs[..., 3])
    )


def auc_credit(errors_deg: np.ndarray, threshold_deg: int) -> np.ndarray:
    """Return what each error adds to AUC@T, 0..1: the share of k = 1..T with error < k, the last bin closed.

    AUC@T of a pool is the mean of these. NaN earns nothing.

    >>> auc_credit(np.array([0.0, 1.0, 29.5, 30.0, 30.1, np.nan]), 30) * 30
    array([30., 29.,  1.,  1.,  0.,  0.])
    """
    inside = errors_deg <= threshold_deg  # False for NaN
    bins = np.minimum(np.floor(np.where(inside, errors_deg, 0)), threshold_deg - 1)
    return np.where(inside, (threshold_deg - bins) / threshold_deg, 0.0)


def auc(errors_deg: np.ndarray, threshold_deg: int) -> float:
    """Return the area under the recall curve up to a threshold in whole degrees, 0..100; NaN for no pairs."""
    return 100 * float(np.mean(auc_credit(errors_deg, threshold_deg))) if np.size(errors_deg) else float("nan")

"""Known intrinsics, poses and rigs take the place of predicted ones.

VGGT takes no cameras as input, so known values do not condition it: they replace its predictions afterwards. Depth
follows the poses: it is scaled by the similarity between predicted and known cameras, and then per frame, so that
frames agree where they see the same points. A known focal length leaves depth as it is (docs/known-values.md).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qvggt.geometry import Similarity
from qvggt.postprocess.cameras import consistent_depth_scales, with_cameras
from qvggt.postprocess.frames import camera_centers, cameras_of, frame_index
from qvggt.postprocess.metric_scale import scaled
from qvggt.postprocess.robust import mean_rotation, residuals, robust_ratio, robust_similarity
from qvggt.postprocess.similarity import transformed
from qvggt.types import Prediction, QvggtError, Rig

log = logging.getLogger(__name__)

_LARGE_MISFIT = 0.1  # of the extent of the known positions
_LARGEST_ANGLE_DEG = 30.0


def with_intrinsics(prediction: Prediction, known: Mapping[str, np.ndarray]) -> tuple[Prediction, dict[str, Any]]:
    """Return a prediction with known intrinsics, and how far the predicted focal lengths were from them.

    Depth stays: only the rays change.

    Args:
        prediction: with cameras.
        known: intrinsics [3, 3] by the frame's name, in pixels of the photograph with the first pixel's center at
            (0.5, 0.5); frames without keep the predicted ones.

    Raises:
        QvggtError: no frame has known intrinsics.
    """
    cameras, intrinsics = cameras_of(prediction)
    changes = []
    for index, (name, frame) in enumerate(zip(prediction.names, prediction.maps, strict=True)):
        if name in known:
            processed_from_original = np.array(
                [[frame.scale[0], 0, frame.offset[0]], [0, frame.scale[1], frame.offset[1]], [0, 0, 1]]
            )
            lens = processed_from_original @ known[name]
            changes.append(intrinsics[index, 0, 0] / lens[0, 0])
            intrinsics[index] = lens
    if not changes:
        raise QvggtError("no frame has a known focal length: check the names in the file (--focal)")
    details = {"frames": len(changes), "median_predicted_over_known": float(np.median(changes))}
    return with_cameras(prediction, cameras, intrinsics, np.ones(len(cameras))), details


def with_poses(prediction: Prediction, known: Mapping[str, np.ndarray]) -> tuple[Prediction, dict[str, Any]]:
    """Return a prediction in the world of known poses, which take the place of predicted ones, and how far those were.

    The predicted world is moved to the known one by a robust similarity transform; frames without a known pose keep
    their predicted one there.

    Args:
        prediction: with cameras.
        known: ``cam_from_world`` [3, 4] by the frame's name.

    Raises:
        QvggtError: the known poses do not determine the similarity, or do not fit the predicted cameras.
    """
    cameras, _ = cameras_of(prediction)
    chosen = np.array([index for index, name in enumerate(prediction.names) if name in known], int)
    if not len(chosen):
        raise QvggtError("no frame has a known pose: check the names in the file (--poses)")
    wanted = np.array([known[prediction.names[index]] for index in chosen], np.float64)
    fit, kept, details = _fit_poses(cameras[chosen], wanted)
    rejected = [prediction.names[index] for index, keep in zip(chosen, kept, strict=True) if not keep]
    moved = transformed(prediction, fit)
    placed, lenses = cameras_of(moved)
    placed[chosen] = wanted
    return _consistent(moved, placed, lenses), {"frames": len(chosen), **details, "rejected": rejected}


def with_rig(prediction: Prediction, rig: Rig) -> tuple[Prediction, dict[str, Any]]:
    """Return a prediction whose frames of each moment keep the relative poses of a rig, and how far they were.

    Known relative poses give the scale in meters; unknown ones are averaged over the groups. The pose of the rig at
    each moment is the mean of those that its frames predict. Frames in no group stay.

    Args:
        prediction: with cameras.
        rig: of at least two cameras.

    Raises:
        QvggtError: a frame does not exist, or the scale is not determined.
    """
    groups = [{camera: frame_index(prediction, name) for camera, name in group.items()} for group in rig.groups]
    moments = [dict(group) for group in rig.groups]
    details: dict[str, Any] = {"groups": len(groups), "relative_poses": "averaged", "moments": moments}
    relative = rig.cam_from_rig
    if relative is None:
        relative = _averaged(cameras_of(prediction)[0], groups)
    else:
        details["relative_poses"] = "known"
        factor = _rig_scale(cameras_of(prediction)[0], groups, relative)
        if factor is not None:
            prediction, details["meters_per_unit"] = scaled(prediction, factor), factor
    cameras, lenses = cameras_of(prediction)
    old = cameras.copy()
    for group in groups:
        rotation = mean_rotation(np.array([relative[c][:, :3].T @ old[i, :, :3] for c, i in group.items()]))
        offsets = [camera_centers(relative[c][None])[0] @ rotation for c in group]  # of the cameras, in the world
        center = np.median(
            [camera_centers(old[i : i + 1])[0] - o for i, o in zip(group.values(), offsets, strict=True)], 0
        )
        for camera, index in group.items():
            turn = relative[camera][:, :3] @ rotation
            cameras[index] = np.column_stack((turn, relative[camera][:, 3] - turn @ center))
    moved = [index for group in groups for index in group.values()]
    details |= _differences(old[moved], cameras[moved])
    return _consistent(prediction, cameras, lenses), details


def _consistent(prediction: Prediction, cameras: np.ndarray, lenses: np.ndarray) -> Prediction:
    """Return a prediction with other cameras, and depth maps scaled so that they agree with each other."""
    placed = with_cameras(prediction, cameras, lenses, np.ones(len(cameras)))
    return with_cameras(placed, cameras, lenses, consistent_depth_scales(placed))


def _fit_poses(found: np.ndarray, wanted: np.ndarray) -> tuple[Similarity, np.ndarray, dict[str, Any]]:
    """Return the similarity from predicted to known poses, which of them it fits, and how well."""
    rotation = mean_rotation(wanted[:, :, :3].transpose(0, 2, 1) @ found[:, :, :3])
    source, target = camera_centers(found), camera_centers(wanted)
    extents = [float(np.ptp(centers, axis=0).max()) for centers in (source, target)]
    if extents[1] <= 1e-6 * (1 + np.abs(target).max()):  # a tripod: no scale is known, and none is needed
        fit, kept = Similarity(1.0, rotation, (target - source @ rotation.T).mean(0)), np.ones(len(found), bool)
    elif extents[0] <= 1e-9:
        raise QvggtError("the known poses are apart and the predicted ones in one place: the scale is not determined")
    else:
        fit, kept = robust_similarity(source, target, rotation)
    errors = residuals(fit, source, target)[kept]
    angles = _angles_deg(found[:, :, :3] @ rotation.T, wanted[:, :, :3])
    if np.median(angles) > _LARGEST_ANGLE_DEG or not fit.scale > 0:
        raise QvggtError(
            f"the known poses do not fit the predicted ones: {np.median(angles):.0f} deg and {np.median(errors):.3g} "
            f"of {extents[1]:.3g} away in the median; check the names, the order and the convention (--poses)"
        )
    if np.median(errors) > _LARGE_MISFIT * extents[1]:
        log.warning(
            "predicted camera positions are %.3g away from the known ones in the median, which are %.3g apart: the "
            "scale of depth is uncertain", np.median(errors), extents[1],
        )  # fmt: skip
    return fit, kept, {
        "scale": fit.scale,
        "median_residual": float(np.median(errors)),
        "worst_residual": float(errors.max()),
        "median_rotation_deg": float(np.median(angles)),
    }  # fmt: skip


def _averaged(cameras: np.ndarray, groups: Sequence[Mapping[str, int]]) -> dict[str, np.ndarray]:
    """Return ``cam_from_rig`` [3, 4] of each camera, robust means over the groups; the first one is the rig."""
    first = next(iter(groups[0]))
    relative: dict[str, np.ndarray] = {}
    for camera in sorted({camera for group in groups for camera in group}):
        both = [(cameras[group[camera]], cameras[group[first]]) for group in groups if {camera, first} <= set(group)]
        if not both:
            raise QvggtError(f"the rig's camera {camera!r} is in no group with {first!r}: add such a group (--rig)")
        turns = np.array([one[:, :3] @ reference[:, :3].T for one, reference in both])
        shifts = [one[:, 3] - turn @ reference[:, 3] for turn, (one, reference) in zip(turns, both, strict=True)]
        relative[camera] = np.column_stack((mean_rotation(turns), np.median(shifts, 0)))
    return relative


def _rig_scale(
    cameras: np.ndarray, groups: Sequence[Mapping[str, int]], relative: Mapping[str, np.ndarray]
) -> float | None:
    """Return meters per unit by the distances between a rig's cameras; None if they are in one place."""
    centers = camera_centers(cameras)
    places = {camera: camera_centers(pose[None])[0] for camera, pose in relative.items()}
    pairs = [(a, b, group) for group in groups for a in group for b in group if a < b]
    known = np.array([np.linalg.norm(places[a] - places[b]) for a, b, _ in pairs])
    found = np.array([np.linalg.norm(centers[group[a]] - centers[group[b]]) for a, b, group in pairs])
    apart = known > 1e-6
    if not apart.any():
        return None
    if not (found[apart] > 0).all():
        raise QvggtError("cameras of the rig are predicted in one place: its scale is not determined")
    return robust_ratio(known[apart], found[apart])[0]


def _differences(old: np.ndarray, new: np.ndarray) -> dict[str, float]:
    shifts = np.linalg.norm(camera_centers(old) - camera_centers(new), axis=1)
    angles = _angles_deg(old[:, :, :3], new[:, :, :3])
    return {"median_residual": float(np.median(shifts)), "median_rotation_deg": float(np.median(angles))}


def _angles_deg(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the angles [N] between rotations [N, 3, 3]."""
    chord = np.linalg.norm(one - other, axis=(1, 2)) / np.sqrt(8)
    return np.degrees(2 * np.arcsin(np.clip(chord, 0, 1)))

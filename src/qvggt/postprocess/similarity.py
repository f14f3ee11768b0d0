"""Similarity transforms, Sim(3), between reconstructions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from qvggt import geometry
from qvggt.geometry import Similarity
from qvggt.options.checks import check_arguments
from qvggt.postprocess.frames import cameras_of, chosen_frames
from qvggt.types import Prediction, QvggtError


def similarity(wanted: Prediction, found: Prediction) -> Similarity:
    """Return the similarity transform that maps one reconstruction of some frames to another.

    The scale is the median ratio of depths, over pixels of at least median confidence in both, of those that no mask
    excludes. Rotation and translation are averages over frames, each of which determines both by its camera.
    """
    sure = _confident(wanted) & _confident(found)  # [S, H, W]
    scale = (
        float(np.median((_present(wanted.depth) / np.maximum(_present(found.depth), 1e-9))[sure]))
        if sure.any()
        else 1.0
    )
    ours, theirs = (torch.from_numpy(_present(each.cam_from_world)).double() for each in (wanted, found))
    back = ours[:, :, :3].transpose(1, 2)  # [S, 3, 3]
    total = (back @ theirs[:, :, :3]).sum(0)
    left, _, right = torch.linalg.svd(total)
    flip = torch.diag(
        torch.tensor([1.0, 1.0, float(torch.det(left @ right).sign())], dtype=total.dtype, device=total.device)
    )
    translation = (back @ (scale * theirs[:, :, 3:] - ours[:, :, 3:])).mean(0)[:, 0]
    return Similarity(scale, (left @ flip @ right).numpy(), translation.numpy())


def _confident(prediction: Prediction) -> np.ndarray:
    """Return [S, H, W] bool: pixels of at least their frame's median confidence, without those that masks exclude."""
    confidence = _present(prediction.depth_conf)
    if prediction.mask is None:
        return confidence >= np.median(confidence, axis=(1, 2), keepdims=True)
    pairs = zip(confidence, prediction.mask, strict=True)
    medians = np.array([np.median(values[kept]) if kept.any() else np.inf for values, kept in pairs])
    return prediction.mask & (confidence >= medians[:, None, None])


def aligned(first: Prediction, second: Prediction) -> tuple[Prediction, Similarity]:
    """Return a second reconstruction of the same images in the first one's world, and the transform applied to it.

    Raises:
        QvggtError: they are of different images, or lack cameras or depth.
    """
    if first.names != second.names or first.images.shape != second.images.shape:
        raise QvggtError(
            "the two results are of different images or sizes: reconstruct the same images, in the same order and with "
            "the same --mode"
        )
    for each in (first, second):
        cameras_of(each)
        if each.depth is None or each.depth_conf is None:
            raise QvggtError("a comparison needs depth in both results: reconstruct with --heads camera depth")
    by = similarity(first, second)
    return transformed(second, by), by


def align(prediction: Prediction, reference: Prediction) -> Similarity:
    """Return the similarity that maps a prediction's world to that of another one with some of the same frames.

    Args:
        prediction: with cameras and depth.
        reference: with cameras and depth; frames are the same if their names are.

    Raises:
        QvggtError: they share no frame, their processed images differ in size, or outputs are missing.
    """
    check_arguments(align, locals())
    shared = [name for name in prediction.names if name in reference.names]
    if not shared:
        raise QvggtError(
            f"predictions of {prediction.names[0]!r}, ... and {reference.names[0]!r}, ... share no frame: alignment "
            "needs at least one that both have by name"
        )
    if prediction.images.shape[2:] != reference.images.shape[2:]:
        raise QvggtError(
            f"aligned predictions need images of one size, got {prediction.images.shape[2:]} and "
            f"{reference.images.shape[2:]} (height, width): use mode='pad'"
        )
    for each in (prediction, reference):
        cameras_of(each)
        if each.depth is None or each.depth_conf is None:
            raise QvggtError("alignment needs depth in both predictions: reconstruct with heads=('camera', 'depth')")
    wanted, found = (
        chosen_frames(each, [each.names.index(name) for name in shared]) for each in (reference, prediction)
    )
    return similarity(wanted, found)


def transformed(prediction: Prediction, by: Similarity) -> Prediction:
    """Return a reconstruction, with cameras and any other outputs, whose world is mapped by a similarity transform.

    Raises:
        QvggtError: the prediction has no cameras, or cameras that are not finite.
    """
    check_arguments(transformed, locals())
    moved = torch.from_numpy(moved_cameras(cameras_of(prediction)[0], by)).float()
    intrinsics = torch.from_numpy(_present(prediction.intrinsics))
    size = (prediction.images.shape[2], prediction.images.shape[3])
    depth, points = prediction.depth, prediction.world_points
    return replace(
        prediction,
        cam_from_world=moved.numpy(),
        pose_enc=geometry.cameras_to_pose_encoding(moved, intrinsics, size).numpy(),
        depth=None if depth is None else depth * np.float32(by.scale),
        world_points=None if points is None else by.apply(points).astype(np.float32),
    )


def moved_cameras(cam_from_world: np.ndarray, by: Similarity) -> np.ndarray:
    """Return cameras [S, 3, 4] whose world is mapped by a similarity transform; they see its points as before."""
    rotation = cam_from_world[:, :, :3] @ by.rotation.T
    translation = by.scale * cam_from_world[:, :, 3:] - rotation @ by.translation[:, None]
    return np.concatenate((rotation, translation), 2)


def _present(values: np.ndarray | None) -> np.ndarray:
    assert values is not None
    return values

"""Per-frame values of a prediction: padding masks, cameras, colors, the up direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
from matplotlib import colormaps

from qvggt.images.files import suggestion
from qvggt.types import FrameMap, ImageSet, Prediction, QvggtError

Frames = TypeVar("Frames", ImageSet, Prediction)

GLTF_FROM_OPENCV = np.diag([1.0, -1.0, -1.0])
"""Rotation from OpenCV axes (x right, y down, z forward) to glTF axes (x right, y up, z backward)."""

_ROLL_WEIGHT = 0.01
"""Weight of the mean up vector against level horizons; it only matters for near-parallel views."""


def photo_mask(prediction: Prediction) -> np.ndarray:
    """Return [S, H, W] bool: True on the photograph, False on padding and where the user's masks exclude a pixel.

    A pixel is on the photograph if its center is.
    """
    return np.stack([frame_photo_mask(prediction, frame) for frame in range(len(prediction.images))])


def frame_photo_mask(prediction: Prediction, index: int) -> np.ndarray:
    """Return the ``photo_mask`` [H, W] of one frame."""
    count, _, height, width = prediction.images.shape
    if len(prediction.maps) != count:
        raise ValueError(f"expected one FrameMap for each of {count} images, got {len(prediction.maps)}")
    x, y, frame = np.arange(width) + 0.5, np.arange(height) + 0.5, prediction.maps[index]
    left, top = frame.offset
    right = left + frame.original_size[0] * frame.scale[0]
    bottom = top + frame.original_size[1] * frame.scale[1]
    mask = ((y > top) & (y < bottom))[:, None] & ((x > left) & (x < right))
    return mask if prediction.mask is None else mask & prediction.mask[index]


def cameras_of(prediction: Prediction) -> tuple[np.ndarray, np.ndarray]:
    """Return ``cam_from_world`` [S, 3, 4] and ``intrinsics`` [S, 3, 3] as float64.

    Raises:
        QvggtError: if the prediction has no cameras, or cameras that are not finite.
    """
    if prediction.cam_from_world is None or prediction.intrinsics is None:
        raise QvggtError("the prediction has no cameras: reconstruct with the camera head (--heads camera depth)")
    cameras, intrinsics = prediction.cam_from_world.astype(np.float64), prediction.intrinsics.astype(np.float64)
    finite = np.isfinite(cameras).all((1, 2)) & np.isfinite(intrinsics).all((1, 2))
    if not finite.all():
        first = prediction.names[int(np.argmin(finite))]
        raise QvggtError(f"the camera of {first!r} is not finite: check the model's weights or leave that image out")
    return cameras, intrinsics


def frame_index(prediction: Prediction, name: str) -> int:
    """Return the index of a frame.

    Raises:
        QvggtError: it does not exist; the message suggests the nearest name.
    """
    if name in prediction.names:
        return prediction.names.index(name)
    raise QvggtError(f"there is no frame {name!r}: {suggestion(prediction.names, name)}")


def chosen_frames(whole: Frames, indices: Sequence[int]) -> Frames:
    """Return a prediction, or images, of some frames, in the order of ``indices``."""
    values = {field.name: getattr(whole, field.name) for field in fields(whole)}
    parts: dict[str, Any] = {
        name: tuple(value[i] for i in indices) if isinstance(value, tuple) else value[list(indices)]
        for name, value in values.items()
        if value is not None
    }
    return type(whole)(**parts)


def original_intrinsics(intrinsics: np.ndarray, frame: FrameMap) -> np.ndarray:
    """Return the intrinsics [3, 3] for the photograph from those [3, 3] for its processed image."""
    if intrinsics.shape != (3, 3):
        raise ValueError(f"expected intrinsics [3, 3], got shape {intrinsics.shape}")
    (scale_x, scale_y), (offset_x, offset_y) = frame.scale, frame.offset
    original_from_processed = np.array(
        [[1 / scale_x, 0, -offset_x / scale_x], [0, 1 / scale_y, -offset_y / scale_y], [0, 0, 1]]
    )
    return original_from_processed @ intrinsics


def camera_centers(cam_from_world: np.ndarray) -> np.ndarray:
    """Return the positions [S, 3] in the world of cameras [S, 3, 4]."""
    return -np.einsum("sij,si->sj", cam_from_world[:, :, :3], cam_from_world[:, :, 3])


def level_rotation(cam_from_world: np.ndarray | None) -> np.ndarray:
    """Return the rotation [3, 3] from the world to glTF axes that makes the scene upright.

    Photographers pitch their cameras but keep the horizon level, so up is the direction closest to perpendicular to
    every camera's x axis; for almost parallel views, which leave that ambiguous, the mean of the cameras' up vectors
    decides. The first camera then looks along -z, into the screen. Without cameras, and for one camera at the identity,
    the result is ``GLTF_FROM_OPENCV``.
    """
    if cam_from_world is None or len(cam_from_world) == 0:
        return GLTF_FROM_OPENCV
    rotations = np.asarray(cam_from_world, np.float64)[:, :, :3]
    right, mean_up, forward = rotations[:, 0], -rotations[:, 1].mean(0), rotations[0, 2]
    cost = right.T @ right / len(right) - _ROLL_WEIGHT * np.outer(mean_up, mean_up)
    up = np.linalg.eigh(cost)[1][:, 0]
    up = -up if up @ mean_up < 0 else up
    back = up * (forward @ up) - forward
    if np.linalg.norm(back) < 1e-3:  # the first camera looks straight up or down: its x axis gives the heading
        back = np.cross(rotations[0, 0], up)
    back /= np.linalg.norm(back)
    return np.stack((np.cross(up, back), up, back))


def frame_colors(count: int) -> np.ndarray:
    """Return sRGB colors [count, 3] in 0..1, one per frame, in the order of a color map."""
    return colormaps["turbo"](np.linspace(0.12, 0.88, max(count, 1)))[:count, :3]


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Return uint8 of values in 0..1, rounded and clipped."""
    return np.rint(np.clip(np.nan_to_num(images), 0, 1) * 255).astype(np.uint8)

"""Ground-truth masks and points."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

from qvggt.eval.metrics.pose import relative_to_first
from qvggt.geometry import unproject
from qvggt.types import QvggtError, Scene

T = TypeVar("T")


def require(value: T | None, scene: Scene, what: str, protocol: str) -> T:
    """Return a value that a protocol needs, or raise QvggtError if it is None."""
    if value is None:
        raise QvggtError(
            f"scene {scene.name} has no {what}, which {protocol} needs: choose another protocol (--protocol)"
        )
    return value


def check_frames(predicted: np.ndarray, truth: np.ndarray, scene: Scene) -> None:
    """Raise ValueError unless prediction and truth have the same number of frames."""
    if len(predicted) != len(truth):
        raise ValueError(f"expected {len(truth)} predicted frames in scene {scene.name}, got {len(predicted)}")


def true_mask(scene: Scene) -> np.ndarray:
    """Return the mask [S, H, W] of pixels whose true depth is valid, finite and positive."""
    depth = require(scene.depth, scene, "true depth", "a mask")
    known = np.isfinite(depth) & (depth > 0)
    return known if scene.valid is None else known & scene.valid


def true_points(scene: Scene, protocol: str) -> tuple[np.ndarray, np.ndarray]:
    """Return true points [S, H, W, 3] float64 in the frame of the first camera, and the mask of known ones [S, H, W].

    Raises:
        QvggtError: if depth, cameras or intrinsics are unknown.
    """
    depth = require(scene.depth, scene, "true depth", protocol)
    cameras = require(scene.cam_from_world, scene, "true cameras", protocol)
    intrinsics = require(scene.intrinsics, scene, "true intrinsics", protocol)
    mask = true_mask(scene)
    intrinsics = resize_intrinsics(intrinsics, scene.images.shape[-2:], depth.shape[1:])
    return unproject_maps(np.where(mask, depth, 1.0), intrinsics, relative_to_first(cameras)), mask


def unproject_maps(depth: np.ndarray, intrinsics: np.ndarray, cam_from_world: np.ndarray) -> np.ndarray:
    """Return world points [S, H, W, 3] of depth maps [S, H, W], in float64."""
    tensors = (torch.from_numpy(np.asarray(a, dtype=np.float64)) for a in (depth, intrinsics, cam_from_world))
    return unproject(*tensors).numpy()


def resize_intrinsics(intrinsics: np.ndarray, size: tuple[int, ...], new_size: tuple[int, ...]) -> np.ndarray:
    """Return intrinsics [S, 3, 3] of images (height, width) resized to a new (height, width), in float64."""
    factors = np.array([new_size[1] / size[1], new_size[0] / size[0], 1.0])
    return np.asarray(intrinsics, dtype=np.float64) * factors[:, None]

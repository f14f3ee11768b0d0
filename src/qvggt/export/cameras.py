"""Cameras as JSON, for the processed images and for the original photographs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from qvggt.files import write_json
from qvggt.geometry import matrix_to_quaternion
from qvggt.options import Unit
from qvggt.postprocess.frames import camera_centers, cameras_of, original_intrinsics
from qvggt.types import PathLike, Prediction

CAMERAS_VERSION = 1
UNITS = {"model": "the model's unit, which is not meters", "meter": "meters"}
"""Each unit in words."""

CONVENTIONS = (
    "cam_from_world = [R|t] takes world points to camera coordinates: x_cam = R x_world + t, OpenCV axes (x right, "
    "y down, z forward). quaternion_xyzw is R; position is the camera's center in the world, -R^T t. Lengths are in "
    "{unit}. Focal lengths and principal points are in pixels, with the center of the "
    "top left pixel at (0.5, 0.5): 'processed' for the image that the model saw, 'original' for the photograph after "
    "its EXIF orientation. Points taken from depth project onto the centers of their pixels."
)


def cameras_document(prediction: Prediction, unit: Unit = "model") -> dict[str, Any]:
    """Return the content of ``cameras.json``, with lengths in ``unit``, as plain Python values.

    Raises:
        QvggtError: if the prediction has no cameras, or cameras that are not finite.
    """
    cameras, intrinsics = cameras_of(prediction)
    quaternions = matrix_to_quaternion(torch.from_numpy(np.ascontiguousarray(cameras[:, :, :3]))).numpy()
    centers = camera_centers(cameras)
    height, width = prediction.images.shape[-2:]
    frames = [
        {
            "name": name,
            "cam_from_world": cameras[i].tolist(),
            "quaternion_xyzw": quaternions[i].tolist(),
            "translation": cameras[i, :, 3].tolist(),
            "position": centers[i].tolist(),
            "processed": _pinhole(intrinsics[i], (width, height)),
            "original": _pinhole(original_intrinsics(intrinsics[i], frame), frame.original_size),
        }
        for i, (name, frame) in enumerate(zip(prediction.names, prediction.maps, strict=True))
    ]
    return {
        "format": "qvggt-cameras",
        "version": CAMERAS_VERSION,
        "conventions": CONVENTIONS.format(unit=UNITS[unit]),
        "unit": unit,
        "frames": frames,
    }


def write_cameras(path: PathLike, prediction: Prediction, unit: Unit = "model") -> None:
    """Write the cameras of a prediction, whose lengths are in ``unit``, as JSON; ``conventions`` defines its axes.

    Raises:
        QvggtError: if the prediction has no finite cameras, or the file cannot be written.
    """
    write_json(path, cameras_document(prediction, unit))


def _pinhole(intrinsics: np.ndarray, size: tuple[int, int]) -> dict[str, float | int]:
    fx, fy, cx, cy = (float(intrinsics[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return {"width": int(size[0]), "height": int(size[1]), "fx": fx, "fy": fy, "cx": cx, "cy": cy}

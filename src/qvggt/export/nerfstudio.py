"""Nerfstudio's ``transforms.json``, with a point cloud beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qvggt.export.ply import write_ply
from qvggt.export.points import PointCloud
from qvggt.export.views import View
from qvggt.files import write_json
from qvggt.options import Unit
from qvggt.postprocess.frames import GLTF_FROM_OPENCV

POINTS = "sparse_pc.ply"


def write_nerfstudio(
    folder: Path, views: Sequence[View], cloud: PointCloud, unit: Unit = "model", has_masks: bool = False
) -> None:
    """Write ``transforms.json`` and ``sparse_pc.ply``.

    Camera axes are OpenGL's (x right, y up, z backward). The world is the prediction's: ``applied_transform`` is the
    identity, so that readers that apply it to the points, and those that do not, agree.

    Args:
        folder: which has the images in ``images/`` and any masks in ``masks/NAME.png``.
        views: one per image.
        cloud: points to start from.
        unit: unit of lengths.
        has_masks: whether there are masks.

    Raises:
        QvggtError: if a file cannot be written.
    """
    write_ply(folder / POINTS, cloud, unit)
    document = {
        "camera_model": "OPENCV",
        "applied_transform": np.eye(4)[:3].tolist(),
        "ply_file_path": POINTS,
        "unit": unit,
        "frames": [_frame(view, has_masks) for view in views],
    }
    write_json(folder / "transforms.json", document)


def _frame(view: View, has_mask: bool) -> dict[str, Any]:
    world_from_cam = np.eye(4)
    rotation = view.cam_from_world[:, :3].T
    world_from_cam[:3, :3] = rotation @ GLTF_FROM_OPENCV
    world_from_cam[:3, 3] = -rotation @ view.cam_from_world[:, 3]
    lens = view.intrinsics
    return {
        "file_path": f"images/{view.name}",
        **({"mask_path": f"masks/{view.name}.png"} if has_mask else {}),
        "w": view.size[0],
        "h": view.size[1],
        "fl_x": float(lens[0, 0]),
        "fl_y": float(lens[1, 1]),
        "cx": float(lens[0, 2]),
        "cy": float(lens[1, 2]),
        "transform_matrix": world_from_cam.tolist(),
    }

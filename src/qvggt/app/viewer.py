"""Serve a reconstruction to a browser."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
import torch

from qvggt.app.server import serving, url_of
from qvggt.export.points import select_points
from qvggt.export.result import Result
from qvggt.geometry import matrix_to_quaternion
from qvggt.options import ViewOptions
from qvggt.postprocess.frames import camera_centers, cameras_of, to_uint8


def view(results: Sequence[Result], options: ViewOptions, on_ready: Callable[[str], None]) -> None:
    """Serve one result until the process is interrupted.

    Args:
        results: to show.
        options: where to listen, and how many points to send.
        on_ready: called with the address once the scene can be opened.

    Raises:
        QvggtError: viser is not installed, no port is free, or the result has no points.
    """
    result = results[0]
    cloud = select_points(
        result.prediction, result.info.points_from, max_points=options.max_points, drop_percent=result.info.drop_percent
    )
    cameras, intrinsics = cameras_of(result.prediction)
    with serving(options) as server:
        server.scene.add_point_cloud("/points", cloud.points, cloud.colors, point_size=0.005, point_shading="flat")
        height, width = result.prediction.images.shape[-2:]
        world_from_cam = np.transpose(cameras[:, :, :3], (0, 2, 1))
        quaternions = matrix_to_quaternion(torch.from_numpy(world_from_cam.copy())).numpy()[:, [3, 0, 1, 2]]
        for index, center in enumerate(camera_centers(cameras)):
            server.scene.add_camera_frustum(
                f"/cameras/{index}",
                2 * float(np.arctan(height / 2 / intrinsics[index, 1, 1])),
                width / height,
                scale=0.1,
                image=to_uint8(result.prediction.images[index].transpose(1, 2, 0)),
                wxyz=quaternions[index],
                position=center,
            )
        on_ready(url_of(server))
        threading.Event().wait()

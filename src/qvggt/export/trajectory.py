"""Camera trajectories as TUM, KITTI and EuRoC files: poses ``world_from_cam`` with OpenCV axes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from qvggt.files import new_file
from qvggt.postprocess.frames import camera_centers, cameras_of
from qvggt.types import Prediction

FILES = ("tum.txt", "kitti.txt", "euroc.csv")


def write_trajectories(folder: Path, prediction: Prediction, times: Sequence[float]) -> None:
    """Write ``tum.txt``, ``kitti.txt`` and ``euroc.csv``, one pose a line.

    TUM has ``time tx ty tz qx qy qz qw``, KITTI the 3x4 matrix by rows, EuRoC ``time,px,py,pz,qw,qx,qy,qz``. Times are
    seconds, in EuRoC nanoseconds.

    Args:
        folder: for the files.
        prediction: with cameras.
        times: one per frame, in seconds.

    Raises:
        QvggtError: if there are no finite cameras, or a file cannot be written.
    """
    cameras, _ = cameras_of(prediction)
    rotations = Rotation.from_matrix(cameras[:, :, :3]).inv()  # the nearest exact ones
    centers, quaternions, matrices = camera_centers(cameras), rotations.as_quat(canonical=True), rotations.as_matrix()
    tum = ["# time [s] tx ty tz qx qy qz qw, world_from_cam"]
    euroc = ["#timestamp [ns],p_RS_R_x,p_RS_R_y,p_RS_R_z,q_RS_w,q_RS_x,q_RS_y,q_RS_z"]
    kitti = []
    for time, center, (x, y, z, w), matrix in zip(times, centers, quaternions, matrices, strict=True):
        tum.append(_line((time, *center, x, y, z, w), " "))
        euroc.append(f"{round(time * 1e9)},{_line((*center, w, x, y, z), ',')}")
        kitti.append(_line(np.column_stack((matrix, center)).ravel(), " "))
    for name, lines in zip(FILES, (tum, kitti, euroc), strict=True):
        with new_file(folder / name, overwrite=True) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _line(values: Sequence[float] | np.ndarray, separator: str) -> str:
    return separator.join(f"{value:.9f}" for value in values)

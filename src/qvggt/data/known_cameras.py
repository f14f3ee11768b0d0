"""Read cameras that users know: COLMAP, TUM, ``cameras.json``, rigs. Every value is checked where it enters."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import torch

from qvggt.data.checks import check_frame, check_intrinsics
from qvggt.data.colmap import read_cameras, read_images
from qvggt.data.frames import invert_pose, pinhole
from qvggt.files.read import read_json_object, read_text, reading
from qvggt.geometry import quaternion_to_matrix
from qvggt.images.files import suggestion
from qvggt.options import Unit
from qvggt.types import FrameMap, PathLike, QvggtError, Rig

log = logging.getLogger(__name__)

T = TypeVar("T")

_FIX_FOCAL, _FIX_POSES, _FIX_RIG = "correct it (--focal)", "correct it (--poses)", "correct it (--rig)"
_SAME_MOMENT_S = 0.02
_SECONDS, _NANOSECONDS = re.compile(r"[0-9]+\.[0-9]+|[0-9]{9,10}"), re.compile(r"[0-9]{18,19}")
_SAME_ASPECT = 0.01


def of_frames(values: Mapping[str, T], names: Sequence[str], what: str) -> dict[str, T]:
    """Return the values of frames, by name or, if a file names them with folders, by the last part of it.

    Values of other names are left out, with one warning.
    """
    last = [PurePosixPath(name).name for name in values]
    found = {
        name if name in names or last.count(part) > 1 else part: value
        for (name, value), part in zip(values.items(), last, strict=True)
    }
    others = [name for name in found if name not in names]
    if others:
        log.warning(
            "%d of %d %s are of no frame, first %r: %s",
            len(others), len(found), what, others[0], suggestion(names, others[0]),
        )  # fmt: skip
    return {name: value for name, value in found.items() if name in names}


def read_intrinsics(path: PathLike, names: Sequence[str], maps: Sequence[FrameMap]) -> dict[str, np.ndarray]:
    """Return the intrinsics [3, 3] of frames in pixels of their photographs, from a COLMAP camera file.

    A single camera is that of all frames; of several, the image file beside it says whose they are. Cameras of another
    resolution with the same aspect ratio are rescaled. Lens distortion is ignored, with a warning.

    Raises:
        QvggtError: a file is missing or damaged, or a camera has another aspect ratio than its photograph.
    """
    path = Path(path)
    cameras = read_cameras(path)
    if len(cameras) == 1:
        known = dict.fromkeys(names, next(iter(cameras.values())))
    else:
        images = read_images(path.with_name(f"images{path.suffix}"))
        of_image = {image.name: cameras[image.camera_id] for image in images if image.camera_id in cameras}
        known = of_frames(of_image, names, "images of the COLMAP model")
    if any(camera.is_distorted() for camera in known.values()):
        log.warning("lens distortion in %s is ignored: undistort the photographs for exact cameras", path)
    found = {}
    for name, frame in zip(names, maps, strict=True):
        if name in known:
            camera, (width, height) = known[name], frame.original_size
            factors = np.array([width / camera.width, height / camera.height])
            if abs(factors[0] / factors[1] - 1) > _SAME_ASPECT:
                raise QvggtError(
                    f"the camera of {name} in {path} has {camera.width}x{camera.height} px, and the photograph "
                    f"{width}x{height}: expected the same aspect ratio (--focal)"
                )
            lens = np.diag([*factors, 1.0]) @ camera.intrinsics()
            found[name] = check_intrinsics(lens, f"the camera of {name} in {path}", _FIX_FOCAL)
    return found


def focal_intrinsics(focal_px: float, frame: FrameMap) -> np.ndarray:
    """Return the intrinsics [3, 3] of a photograph with a focal length, its principal point in the middle."""
    width, height = frame.original_size
    return pinhole((focal_px, focal_px), (width / 2, height / 2))


def read_poses(path: PathLike, names: Sequence[str]) -> tuple[dict[str, np.ndarray], Unit]:
    """Return ``cam_from_world`` [3, 4] of frames, and the unit of their positions.

    ``.json``: ``cameras.json`` of this program. ``.bin``: COLMAP's image file. Text: a TUM trajectory if its lines have
    8 numbers (timestamp, position, quaternion xyzw of ``world_from_cam``, in meters; frames are found by names that are
    timestamps, or in their order), COLMAP's image file otherwise.

    Raises:
        QvggtError: the file is missing or damaged, a rotation is not orthonormal, or the number of poses of a
            trajectory is not that of the frames.
    """
    path, unit = Path(path), "model"
    trajectory = None if path.suffix in (".json", ".bin") else _tum_lines(path)
    if path.suffix == ".json":
        poses, unit = _own_poses(path)
    elif trajectory is not None:
        poses, unit = _tum_poses(path, trajectory, names), "meter"
    else:
        poses = {image.name: image.cam_from_world for image in read_images(path)}
    poses = of_frames(poses, names, "known poses")
    for name, pose in poses.items():
        check_frame(str(path), name, pose, None, remedy=_FIX_POSES)
    return poses, unit


def read_rig(path: PathLike) -> Rig:
    """Return a rig from a JSON file: ``cameras``, each with ``cam_from_rig`` [3, 4] in meters or null, and ``groups``.

    ``{"cameras": {"left": {"cam_from_rig": [[...], ...]}, ...}, "groups": [{"left": "l1.jpg", "right": "r1.jpg"}]}``

    Raises:
        QvggtError: the file is missing or damaged, or a rotation is not orthonormal.
    """
    what, remedy = "the rig file", "expected cameras and groups, as docs/known-values.md shows"
    document = read_json_object(path, remedy, what)
    with reading(path, remedy, what):
        cameras: dict[str, Any] = {name: camera["cam_from_rig"] for name, camera in document["cameras"].items()}
        groups = [{str(camera): str(frame) for camera, frame in group.items()} for group in document["groups"]]
        used = [frame for group in groups for frame in group.values()]
        if len(cameras) < 2 or not any(len(group) > 1 for group in groups):
            raise ValueError("a rig has at least two cameras, and a group with two of them")
        if not {camera for group in groups for camera in group} <= set(cameras):
            raise ValueError("a group names a camera that is not among the cameras")
        if len(set(used)) < len(used):
            raise ValueError("a frame is in two groups")
        unknown = [name for name, pose in cameras.items() if pose is None]
        if unknown and len(unknown) < len(cameras):
            raise ValueError(f"the pose of {unknown[0]!r} is null and others are known")
        if unknown:
            return Rig(None, groups)
        poses = {name: np.array(pose, np.float64).reshape(3, 4) for name, pose in cameras.items()}
    for name, pose in poses.items():
        check_frame(str(path), name, pose, None, remedy=_FIX_RIG)
    return Rig(poses, groups)


def _own_poses(path: Path) -> tuple[dict[str, np.ndarray], Unit]:
    remedy, what = "export it again", "the camera file"
    document = read_json_object(path, remedy, what)
    with reading(path, remedy, what):
        frames = document["frames"]
        poses = {frame["name"]: np.array(frame["cam_from_world"], np.float64).reshape(3, 4) for frame in frames}
        return poses, "meter" if document.get("unit") == "meter" else "model"


def _tum_lines(path: Path) -> np.ndarray | None:
    """Return the numbers [N, 8] of a TUM trajectory, or None if the file is something else."""
    lines = read_text(path, _FIX_POSES, "the pose file").splitlines()
    words = [line.replace(",", " ").split() for line in lines if line.strip() and not line.startswith("#")]
    if not words or len(words[0]) != 8:
        return None
    with reading(path, "expected 8 numbers a line: timestamp, x, y, z, qx, qy, qz, qw", "the trajectory"):
        return np.array([[float(word) for word in line] for line in words]).reshape(-1, 8)


def _tum_poses(path: Path, lines: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    norms = np.linalg.norm(lines[:, 4:], axis=1)
    if not np.isfinite(lines).all() or (np.abs(norms - 1) > 0.01).any():
        raise QvggtError(f"the trajectory {path} has a pose whose quaternion is not of length 1: {_FIX_POSES}")
    rotations = quaternion_to_matrix(torch.from_numpy(lines[:, 4:])).numpy()
    poses = [invert_pose(np.column_stack((turn, line[1:4]))) for turn, line in zip(rotations, lines, strict=True)]
    times = [_time_s(PurePosixPath(name).stem) for name in names]
    if None not in times:
        gaps = np.abs(lines[:, 0] - np.array(times, np.float64)[:, None])  # [S, N]
        nearest = gaps.argmin(1)
        close = gaps[np.arange(len(names)), nearest] <= _SAME_MOMENT_S
        if close.any():
            return {name: poses[at] for name, at, near in zip(names, nearest, close, strict=True) if near}
    if len(poses) != len(names):
        raise QvggtError(
            f"the trajectory {path} has {len(poses)} poses for {len(names)} frames: expected one for each in their "
            "order, or frames that are named by timestamp"
        )
    return dict(zip(names, poses, strict=True))


def _time_s(stem: str) -> float | None:
    """Return the timestamp that a name is, in seconds or in nanoseconds since 1970; None if it is a mere number."""
    if _SECONDS.fullmatch(stem):
        return float(stem)
    return int(stem) * 1e-9 if _NANOSECONDS.fullmatch(stem) else None

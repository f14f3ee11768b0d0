"""COLMAP models, binary and text: pinhole cameras, images with observations, points with tracks; ids count from 1."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from qvggt.export.tracks import Tracks
from qvggt.export.views import View
from qvggt.files import make_folder
from qvggt.geometry import matrix_to_quaternion

_PINHOLE = 1
"""COLMAP's number of the model PINHOLE, with parameters fx, fy, cx, cy."""
_POINT2D = np.dtype([("x", "<f8"), ("y", "<f8"), ("point3d_id", "<i8")])
_OBSERVATION = np.dtype([("image_id", "<u4"), ("point2d_index", "<u4")])

_Camera = tuple[int, int, float, float, float, float]


def write_colmap(
    folder: Path, views: Sequence[View], tracks: Tracks, share_cameras: bool = False, text: bool = False
) -> int:
    """Write ``cameras``, ``images`` and ``points3D`` as ``.bin`` or ``.txt`` and return the number of cameras.

    Args:
        folder: created if missing.
        views: one per image.
        tracks: points and observations in the pixels of the views.
        share_cameras: whether images of equal size and intrinsics share one camera.
        text: COLMAP's text format in place of the binary one.
    """
    make_folder(folder)
    each = [_camera(view) for view in views]
    cameras = list(dict.fromkeys(each)) if share_cameras else each
    camera_ids = [cameras.index(camera) + 1 for camera in each] if share_cameras else list(range(1, len(each) + 1))
    starts = np.searchsorted(tracks.frame, np.arange(len(views) + 1))
    write = _write_text if text else _write_binary
    write(folder, cameras, list(_images(views, camera_ids)), tracks, starts=starts)
    return len(cameras)


def _camera(view: View) -> _Camera:
    fx, fy, cx, cy = (float(view.intrinsics[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return (*view.size, fx, fy, cx, cy)


def _images(views: Sequence[View], camera_ids: Sequence[int]) -> Iterator[tuple[list[float], int, str]]:
    """Yield of each image its pose (quaternion wxyz and translation), the id of its camera and its name."""
    for view, camera_id in zip(views, camera_ids, strict=True):
        x, y, z, w = matrix_to_quaternion(torch.from_numpy(view.cam_from_world[:, :3].copy())).tolist()
        yield [w, x, y, z, *view.cam_from_world[:, 3].tolist()], camera_id, view.name


def _observations(tracks: Tracks, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all observations [M] sorted by point, and the bounds [N + 1] of each point's track in them."""
    order = np.lexsort((tracks.frame, tracks.owner))
    observations = np.empty(len(order), _OBSERVATION)
    observations["image_id"] = tracks.frame[order] + 1
    observations["point2d_index"] = order - starts[tracks.frame[order]]
    return observations, np.searchsorted(tracks.owner[order], np.arange(len(tracks.points) + 1))


def _write_binary(
    folder: Path, cameras: Sequence[_Camera], images: Sequence[tuple], tracks: Tracks, starts: np.ndarray
) -> None:
    with open(folder / "cameras.bin", "wb") as file:
        file.write(struct.pack("<Q", len(cameras)))
        for number, camera in enumerate(cameras, 1):
            file.write(struct.pack("<iiQQ4d", number, _PINHOLE, *camera))
    points2d = np.empty(len(tracks.owner), _POINT2D)
    points2d["x"], points2d["y"], points2d["point3d_id"] = *tracks.pixels.T, tracks.owner + 1
    with open(folder / "images.bin", "wb") as file:
        file.write(struct.pack("<Q", len(images)))
        for index, (pose, camera_id, name) in enumerate(images):
            here = points2d[starts[index] : starts[index + 1]]
            file.write(struct.pack("<I7dI", index + 1, *pose, camera_id) + name.encode() + b"\0")
            file.write(struct.pack("<Q", len(here)) + here.tobytes())
    observations, bounds = _observations(tracks, starts)
    with open(folder / "points3D.bin", "wb") as file:
        file.write(struct.pack("<Q", len(tracks.points)))
        values = zip(tracks.points.tolist(), tracks.colors.tolist(), tracks.errors.tolist(), strict=True)
        for index, (point, color, error) in enumerate(values):
            track = observations[bounds[index] : bounds[index + 1]]
            file.write(struct.pack("<Q3d3BdQ", index + 1, *point, *color, error, len(track)) + track.tobytes())


def _write_text(
    folder: Path, cameras: Sequence[_Camera], images: Sequence[tuple], tracks: Tracks, starts: np.ndarray
) -> None:
    def write(name: str, header: str, lines: Iterator[str]) -> None:
        with open(folder / name, "w", encoding="utf-8", newline="\n") as file:
            file.write(f"# {header}\n")
            file.writelines(f"{line}\n" for line in lines)

    def image_lines() -> Iterator[str]:
        for index, (pose, camera_id, name) in enumerate(images):
            here = slice(starts[index], starts[index + 1])
            yield " ".join(map(str, (index + 1, *pose, camera_id, name)))
            observed = zip(tracks.pixels[here].tolist(), (tracks.owner[here] + 1).tolist(), strict=True)
            yield " ".join(f"{x} {y} {point}" for (x, y), point in observed)

    def point_lines() -> Iterator[str]:
        observations, bounds = _observations(tracks, starts)
        values = zip(tracks.points.tolist(), tracks.colors.tolist(), tracks.errors.tolist(), strict=True)
        for index, (point, color, error) in enumerate(values):
            track = observations[bounds[index] : bounds[index + 1]].tolist()
            yield " ".join(map(str, (index + 1, *point, *color, error, *(value for pair in track for value in pair))))

    numbered = enumerate(cameras, 1)
    write(
        "cameras.txt",
        "CAMERA_ID, MODEL, WIDTH, HEIGHT, FX, FY, CX, CY",
        (" ".join(map(str, (number, "PINHOLE", *camera))) for number, camera in numbered),
    )
    write(
        "images.txt",
        "IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME; then X, Y, POINT3D_ID of each observation",
        image_lines(),
    )
    write("points3D.txt", "POINT3D_ID, X, Y, Z, R, G, B, ERROR, then IMAGE_ID, POINT2D_IDX of its track", point_lines())

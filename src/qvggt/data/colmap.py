"""COLMAP models, text and binary: the cameras and poses that ``cameras`` and ``images`` files hold.

Points and observations are skipped. Pixels are COLMAP's: the first pixel's center is at (0.5, 0.5).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from qvggt import geometry
from qvggt.data.files import read_text
from qvggt.data.frames import pinhole
from qvggt.types import PathLike, QvggtError

# Name and number of parameters, in the order of the binary format's model numbers.
_MODELS = (
    ("SIMPLE_PINHOLE", 3),
    ("PINHOLE", 4),
    ("SIMPLE_RADIAL", 4),
    ("RADIAL", 5),
    ("OPENCV", 8),
    ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12),
    ("FOV", 5),
    ("SIMPLE_RADIAL_FISHEYE", 4),
    ("RADIAL_FISHEYE", 5),
    ("THIN_PRISM_FISHEYE", 12),
)
_ONE_FOCAL = ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
_UNDISTORTED = ("SIMPLE_PINHOLE", "PINHOLE")


@dataclass(frozen=True)
class ColmapCamera:
    """A calibrated camera.

    Attributes:
        model: COLMAP's name of the projection, e.g. ``PINHOLE``.
        width: of the image, in pixels.
        height: of the image, in pixels.
        params: focal lengths, principal point and distortion in the order that the model has them.
    """

    model: str
    width: int
    height: int
    params: tuple[float, ...]

    def intrinsics(self) -> np.ndarray:
        """Return [3, 3] pinhole intrinsics; distortion, if there is any, is left aside."""
        if self.model in _ONE_FOCAL:
            focal, center_x, center_y = self.params[:3]
            return pinhole((focal, focal), (center_x, center_y))
        return pinhole((self.params[0], self.params[1]), (self.params[2], self.params[3]))

    def is_distorted(self) -> bool:
        """Return whether the pinhole intrinsics alone are not the whole camera."""
        if self.model in _UNDISTORTED:
            return False
        return "FISHEYE" in self.model or any(self.params[3 if self.model in _ONE_FOCAL else 4 :])


@dataclass(frozen=True)
class ColmapImage:
    """A registered image: its name relative to the image folder, its camera and ``cam_from_world`` [3, 4] float64."""

    name: str
    camera_id: int
    cam_from_world: np.ndarray


def find_model(folder: Path) -> Path | None:
    """Return the first of ``folder``, ``sparse/0``, ``sparse`` and ``colmap`` that holds a COLMAP model, or None."""
    for candidate in (folder, folder / "sparse" / "0", folder / "sparse", folder / "colmap"):
        if any((candidate / f"images{suffix}").is_file() for suffix in (".txt", ".bin")):
            return candidate
    return None


def read_model(folder: PathLike) -> tuple[dict[int, ColmapCamera], list[ColmapImage]]:
    """Read a COLMAP model; the text form is preferred where both are there.

    Returns:
        Cameras by id, and images in the order of their names.

    Raises:
        QvggtError: a file is missing or damaged.
    """
    folder = Path(folder)
    binary = not (folder / "images.txt").is_file() and (folder / "images.bin").is_file()
    cameras_path, images_path = (folder / f"{stem}{'.bin' if binary else '.txt'}" for stem in ("cameras", "images"))
    try:
        cameras = _binary_cameras(cameras_path) if binary else _text_cameras(cameras_path)
        images = _binary_images(images_path) if binary else _text_images(images_path)
    except (ValueError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise QvggtError(f"the COLMAP model in {folder} is damaged ({error}): export it again") from error
    for image in images:
        if image.camera_id not in cameras:
            raise QvggtError(
                f"{images_path} names camera {image.camera_id}, which {cameras_path} lacks: export both again"
            )
    return cameras, sorted(images, key=lambda image: image.name)


def _camera(model: str, width: int, height: int, params: tuple[float, ...]) -> ColmapCamera:
    expected = dict(_MODELS).get(model)
    if expected is None:
        raise ValueError(f"camera model {model!r} is not known")
    if len(params) != expected:
        raise ValueError(f"a {model} camera has {expected} parameters, not {len(params)}")
    return ColmapCamera(model, width, height, params)


def _image(name: str, camera_id: int, wxyz: tuple[float, ...], translation: tuple[float, ...]) -> ColmapImage:
    w, x, y, z = wxyz
    rotation = geometry.quaternion_to_matrix(torch.tensor([x, y, z, w], dtype=torch.float64)).numpy()
    pose = np.concatenate((rotation, np.array(translation, dtype=np.float64)[:, None]), axis=1)
    if not np.isfinite(pose).all():
        raise ValueError(f"the pose of image {name} is not finite")
    return ColmapImage(name, camera_id, pose)


def _text_cameras(path: Path) -> dict[int, ColmapCamera]:
    cameras = {}
    for line in read_text(path, "the COLMAP camera file").splitlines():
        words = line.split()
        if words and not words[0].startswith("#"):
            params = tuple(float(word) for word in words[4:])
            cameras[int(words[0])] = _camera(words[1], int(words[2]), int(words[3]), params)
    return cameras


def _text_images(path: Path) -> list[ColmapImage]:
    images = []
    lines = iter(read_text(path, "the COLMAP image file").splitlines())
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split(maxsplit=9)  # a name may hold spaces
        numbers = tuple(float(word) for word in words[1:8])
        images.append(_image(words[9].strip(), int(words[8]), numbers[:4], numbers[4:]))
        next(lines, None)  # the image's observations; the line is there even if it is empty
    return images


def _binary_cameras(path: Path) -> dict[int, ColmapCamera]:
    cameras = {}
    with _open_binary(path, "the COLMAP camera file") as file:
        for _ in range(_unpack(file, "<Q")[0]):
            camera_id, model_number, width, height = _unpack(file, "<iiQQ")
            if not 0 <= model_number < len(_MODELS):
                raise ValueError(f"camera model number {model_number} is not known")
            model, count = _MODELS[model_number]
            cameras[camera_id] = _camera(model, width, height, _unpack(file, f"<{count}d"))
    return cameras


def _binary_images(path: Path) -> list[ColmapImage]:
    images = []
    with _open_binary(path, "the COLMAP image file") as file:
        size = os.fstat(file.fileno()).st_size
        for _ in range(_unpack(file, "<Q")[0]):
            _, *numbers, camera_id = _unpack(file, "<i7di")
            name = b"".join(iter(lambda: _unpack(file, "<c")[0], b"\0")).decode("utf-8")
            images.append(_image(name, camera_id, tuple(numbers[:4]), tuple(numbers[4:])))
            (observations,) = _unpack(file, "<Q")
            end = file.tell() + observations * 24  # x, y as doubles and the point's number
            if end > size:
                raise ValueError("it ends early")
            file.seek(end)
    return images


def _open_binary(path: Path, what: str) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise QvggtError(f"{what} is missing: {path} was looked for; export the model again") from error


def _unpack(file: BinaryIO, layout: str) -> tuple:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))

"""Read cameras and poses of COLMAP models, text and binary.

Points and observations are skipped. In COLMAP's pixels the first pixel's center is at (0.5, 0.5).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch

from qvggt import geometry
from qvggt.data.checks import check_name, check_size
from qvggt.data.frames import pinhole
from qvggt.files.read import open_regular, read_text, reading
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
_AGAIN = "export the model again"


@dataclass(frozen=True)
class ColmapCamera:
    """A calibrated camera.

    Attributes:
        model: COLMAP's name of the projection, e.g. ``PINHOLE``.
        width: of the image, in pixels.
        height: of the image, in pixels.
        params: focal lengths, principal point and distortion in COLMAP's order.
    """

    model: str
    width: int
    height: int
    params: tuple[float, ...]

    def intrinsics(self) -> np.ndarray:
        """Return [3, 3] pinhole intrinsics, without distortion."""
        if self.model in _ONE_FOCAL:
            focal, center_x, center_y = self.params[:3]
            return pinhole((focal, focal), (center_x, center_y))
        return pinhole((self.params[0], self.params[1]), (self.params[2], self.params[3]))

    def is_distorted(self) -> bool:
        """Return whether the camera has lens distortion."""
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
    """Read a COLMAP model; text is preferred if both forms are there.

    Returns:
        Cameras by id, and images in the order of their names.

    Raises:
        QvggtError: a file is missing or damaged.
    """
    folder = Path(folder)
    binary = not (folder / "images.txt").is_file() and (folder / "images.bin").is_file()
    cameras_path, images_path = (folder / f"{stem}{'.bin' if binary else '.txt'}" for stem in ("cameras", "images"))
    cameras, images = read_cameras(cameras_path), read_images(images_path)
    for image in images:
        if image.camera_id not in cameras:
            raise QvggtError(
                f"{images_path} names camera {image.camera_id}, which {cameras_path} lacks: export both again"
            )
    return cameras, sorted(images, key=lambda image: image.name)


def read_cameras(path: PathLike) -> dict[int, ColmapCamera]:
    """Return the cameras, by id, of a COLMAP camera file; binary if its name ends in ``.bin``.

    Raises:
        QvggtError: the file is missing or damaged.
    """
    path = Path(path)
    with reading(path, _AGAIN, "the COLMAP camera file"):
        return _binary_cameras(path) if path.suffix == ".bin" else _text_cameras(path)


def read_images(path: PathLike) -> list[ColmapImage]:
    """Return the images of a COLMAP image file; binary if its name ends in ``.bin``.

    Raises:
        QvggtError: the file is missing or damaged.
    """
    path = Path(path)
    with reading(path, _AGAIN, "the COLMAP image file"):
        return _binary_images(path) if path.suffix == ".bin" else _text_images(path)


def _camera(source: Path, model: str, width: int, height: int, params: tuple[float, ...]) -> ColmapCamera:
    expected = dict(_MODELS).get(model)
    if expected is None:
        raise ValueError(f"camera model {model!r} is not known")
    if len(params) != expected:
        raise ValueError(f"a {model} camera has {expected} parameters, not {len(params)}")
    camera = ColmapCamera(model, *check_size(width, height, source, _AGAIN), params)
    if not np.isfinite(params).all():
        raise ValueError(f"the parameters of a {model} camera are not finite")
    return camera


def _image(
    source: Path, name: str, camera_id: int, wxyz: tuple[float, ...], translation: tuple[float, ...]
) -> ColmapImage:
    w, x, y, z = wxyz
    rotation = geometry.quaternion_to_matrix(torch.tensor([x, y, z, w], dtype=torch.float64, device="cpu")).numpy()
    pose = np.concatenate((rotation, np.array(translation, dtype=np.float64)[:, None]), axis=1)
    if not np.isfinite(pose).all():
        raise ValueError(f"the pose of image {name} is not finite")
    return ColmapImage(check_name(name, source, _AGAIN), camera_id, pose)


def _text_cameras(path: Path) -> dict[int, ColmapCamera]:
    cameras = {}
    for line in read_text(path, _AGAIN, "the COLMAP camera file").splitlines():
        words = line.split()
        if words and not words[0].startswith("#"):
            params = tuple(float(word) for word in words[4:])
            cameras[int(words[0])] = _camera(path, words[1], int(words[2]), int(words[3]), params=params)
    return cameras


def _text_images(path: Path) -> list[ColmapImage]:
    images = []
    lines = iter(read_text(path, _AGAIN, "the COLMAP image file").splitlines())
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split(maxsplit=9)  # a name may hold spaces
        numbers = tuple(float(word) for word in words[1:8])
        images.append(_image(path, words[9].strip(), int(words[8]), numbers[:4], translation=numbers[4:]))
        next(lines, None)  # the image's observations, an empty line if it has none
    return images


def _binary_cameras(path: Path) -> dict[int, ColmapCamera]:
    cameras = {}
    with open_regular(path) as file:
        for _ in range(_unpack(file, "<Q")[0]):
            camera_id, model_number, width, height = _unpack(file, "<iiQQ")
            if not 0 <= model_number < len(_MODELS):
                raise ValueError(f"camera model number {model_number} is not known")
            model, count = _MODELS[model_number]
            cameras[camera_id] = _camera(path, model, width, height, params=_unpack(file, f"<{count}d"))
    return cameras


def _binary_images(path: Path) -> list[ColmapImage]:
    images = []
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        for _ in range(_unpack(file, "<Q")[0]):
            _, *numbers, camera_id = _unpack(file, "<i7di")
            name = b"".join(iter(lambda: _unpack(file, "<c")[0], b"\0")).decode("utf-8", "surrogateescape")
            images.append(_image(path, name, camera_id, tuple(numbers[:4]), translation=tuple(numbers[4:])))
            (observations,) = _unpack(file, "<Q")
            end = file.tell() + observations * 24  # x, y as doubles and the point's number
            if end > size:
                raise ValueError("it ends early")
            file.seek(end)
    return images


def _unpack(file: IO[bytes], layout: str) -> tuple:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
